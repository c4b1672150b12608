"""`headgate fetch`: what some commands need beside Python packages."""

from __future__ import annotations

import typer

from headgate.cli.options import Json
from headgate.cli.output import next_step, note, print_json, print_line
from headgate.profiling.peers.arm64 import fetch as bring

fetch = typer.Typer(name="fetch", help="Fetch what emulated boards need.", no_args_is_help=True)


@fetch.callback()
def before_the_thing() -> None:
    """Fetch what emulated boards need."""


@fetch.command("litert-arm64")
def litert_arm64(json: Json = False) -> None:
    """Fetch LiteRT for arm64, to run .tflite files with --on qemu:rpi4; once, 45 MB."""
    folder = bring(note)
    if json:
        print_json({"folder": folder})
        return
    print_line(str(folder))
    next_step("headgate run NETWORK.tflite --on qemu:rpi4")
