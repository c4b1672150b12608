"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from headgate.device.agent.settings import OPTIONS, option

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs, and nothing else.")]

BundleFile = Annotated[
    Path,
    typer.Argument(
        metavar="BUNDLE", help="A .hgb file that `headgate compile` wrote, or a .tflite file."
    ),
]

Machine = Annotated[
    str,
    typer.Option("--on", metavar="MACHINE", help="host, or an emulated board such as qemu:rpi4."),
]

Machines = Annotated[
    str,
    typer.Option(
        "--on",
        metavar="MACHINE,...",
        help="host, an emulated board such as qemu:rpi4, a board as USER@HOST or by its name in "
        "boards.toml, a microcontroller's port such as serial:/dev/ttyACM0, several of these with "
        "commas, or 'all' of boards.toml.",
    ),
]

Threads = Annotated[
    int,
    typer.Option(
        "--threads", min=1, max=16, help="How many share each layer; results are the same bits."
    ),
]

Images = Annotated[
    list[str] | None,
    typer.Option(
        "--images",
        metavar="WHAT",
        help="'sample' for the 200 CIFAR-10 test images of the package, an image file, a folder "
        "of them, or a .npy array (uint8 NHWC, or float32 NCHW as the network takes it). "
        "May be given several times.",
    ),
]


def measuring(name: str, more: str = "", least: int | None = None) -> Any:
    """The option of a setting of the agent, with what is known of it there."""
    about = OPTIONS[name]
    text = f"{about['help'][0].upper()}{about['help'][1:]}.{more}"
    return typer.Option(option(name), metavar=about["metavar"], help=text, min=least)
