"""`headgate flash`: a disk image to an SD card, or firmware to a microcontroller."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

from headgate.cli.flash_firmware import flash_firmware, is_firmware
from headgate.cli.options import Json
from headgate.cli.output import next_step, note, print_json, print_line, print_table
from headgate.device.flash import Flashed, ImageSource, Target, find_target, list_disks
from headgate.device.flash import flash as write
from headgate.errors import UsageError
from headgate.screen import Bars, standard_error


def flash(
    image: Annotated[
        Path | None,
        typer.Argument(
            metavar="[IMAGE]",
            help="A disk image: .img, .img.xz or .img.gz; or firmware: the folder that "
            "`headgate compile --project` wrote, the project in it, or an .elf file with --board.",
        ),
    ] = None,
    target: Annotated[
        Path | None,
        typer.Argument(
            metavar="[TARGET]",
            help="The disk, such as /dev/sdb, or a plain file; without one, "
            "the removable disks are listed. Of firmware: the drive or file for UF2.",
        ),
    ] = None,
    board: Annotated[
        str | None,
        typer.Option(
            metavar="BOARD", help="The microcontroller board, such as pico2; the project's."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, read the image, write nothing.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask for the disk's name to be typed; for scripts.")
    ] = False,
    json: Json = False,
) -> None:
    """Write a disk image to an SD card, read back before it can boot, or firmware to a board."""
    if board is not None and image is None:
        raise UsageError("--board is for firmware; give its folder or .elf file")
    if image is not None and (board is not None or is_firmware(image)):
        flash_firmware(image, target, board, dry_run, json)
        return
    if image is None or target is None:
        _show_disks(image, json)
        return
    found = find_target(target)
    with ImageSource(image) as source:
        if dry_run:
            _rehearse(source, found, json)
            return
        if found.overwrites() and not yes:
            _confirm(found)
        done = _flash(source, found)
    if json:
        print_json({"image": image, "target": found.path} | vars(done))
        return
    print_line(
        f"{found.path}: {_megabytes(done.size_bytes)}, {_megabytes(done.written_bytes)} of it "
        f"data, read back and right; SHA-256 {done.sha256}"
    )


def _show_disks(image: Path | None, json: bool) -> None:
    disks = [disk for disk in list_disks() if disk.removable]
    if json:
        print_json({"disks": disks})
        return
    if not disks:
        print_line("no removable disk; insert a card, and run this again")
        return
    print_table(
        "Removable disks",
        ["disk", "size", "model", "serial", "connection", ""],
        [
            (
                str(disk.path),
                _megabytes(disk.size_bytes),
                disk.model,
                disk.serial,
                disk.connection,
                disk.refusal or "",
            )
            for disk in disks
        ],
    )
    free = [disk for disk in disks if disk.refusal is None]
    if free:
        next_step(f"headgate flash {image or 'pi.img'} {free[0].path}")


def _rehearse(source: ImageSource, target: Target, json: bool) -> None:
    source.must_not_be(target.path)
    size = sum(len(chunk) for chunk in source.chunks())
    room = target.size_bytes
    if room is not None and size > room:
        raise UsageError(f"{source.path} has {size:,} bytes, {target.path} only {room:,}")
    if json:
        print_json({"image": source.path, "target": target.path, "size_bytes": size})
        return
    print_line(f"would write {_megabytes(size)} to {_describe(target)}; nothing was written")


def _confirm(target: Target) -> None:
    if not sys.stdin.isatty():
        raise UsageError(f"{target.path} would be overwritten; a script has to say --yes")
    standard_error().print(f"All of {_describe(target)} will be overwritten.", soft_wrap=True)
    typed = typer.prompt(f"Type {target.name} to go on", default="", show_default=False, err=True)
    if typed.strip() != target.name:
        raise UsageError(f"{typed!r} is not {target.name!r}: nothing was written")


def _describe(target: Target) -> str:
    if target.disk is None:
        return f"the file {target.path}"
    disk = target.disk
    facts = [disk.model or "unknown model", _megabytes(disk.size_bytes)]
    facts += [f"serial {disk.serial}"] if disk.serial else []
    return f"{target.path} ({', '.join(facts)})"


def _flash(source: ImageSource, target: Target) -> Flashed:
    stderr = standard_error()
    if not stderr.is_terminal:
        said = set()

        def say(phase: str, done: int, total: int) -> None:
            if phase not in said:
                said.add(phase)
                note(f"{phase} {target.path}")

        return write(source, target, say)
    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with Bars(stderr, "{task.description:10}", *columns) as bars:
        tasks = {phase: bars.add_task(phase, start=False) for phase in ("writing", "verifying")}

        def show(phase: str, done: int, total: int) -> None:
            bars.start_task(tasks[phase])
            bars.update(tasks[phase], completed=done, total=total)

        return write(source, target, show)


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"
