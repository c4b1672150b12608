"""`headgate flash` of firmware: a UF2 file for boards that take one, a debug probe for others."""

from __future__ import annotations

from pathlib import Path

from headgate.cli.output import next_step, print_json, print_line, working
from headgate.device.bundle import MANIFEST
from headgate.device.flash.firmware import (
    Firmware,
    find_firmware,
    is_project,
    make_uf2,
    write_uf2,
)
from headgate.device.flash.probe import check_probe, flash_by_probe
from headgate.errors import UsageError


def is_firmware(source: Path) -> bool:
    """Whether a path is of a program, a bundle's folder or its project, not of a disk image."""
    return source.suffix == ".elf" or (source / MANIFEST).is_file() or is_project(source)


def flash_firmware(
    source: Path, target: Path | None, board: str | None, dry_run: bool, json: bool
) -> None:
    """Writes the program in ``source`` to a board, or to a file that the board takes."""
    firmware = find_firmware(source, board)
    if firmware.board.is_emulated:
        raise UsageError(
            f"{firmware.board.name} is QEMU's; run the project: python build.py run in its folder"
        )
    size = len(firmware.image)
    if firmware.board.uf2_family is None:
        if target is not None:
            raise UsageError(f"{firmware.board.name} is flashed by its debug probe; leave {target}")
        written = None
        _by_probe(firmware, dry_run)
    else:
        written = _by_file(firmware, target, dry_run)
    if json:
        figures = {"program": firmware.path, "board": firmware.board.name, "flash_bytes": size}
        print_json({**figures, "address": firmware.address, "written": written})
        return
    if dry_run:
        print_line(f"would write {size:,} bytes to {firmware.board.name}; nothing was written")
    elif firmware.board.uf2_family is None:
        print_line(f"{firmware.board.name}: {size:,} bytes, and it was reset")
    else:
        print_line(f"{written}: {size:,} bytes of flash")
        if target is None:
            print_line("DRIVE is what appears when the board is plugged in with BOOTSEL held")
            next_step(f"headgate flash {source} DRIVE")
            return
    if not dry_run and (source / MANIFEST).is_file():
        if not firmware.board.uart_usb:
            print_line(f"PORT is that of an adapter at {firmware.board.uart_place}")
        next_step(f"headgate validate {source} --on {firmware.board.port}")


def _by_probe(firmware: Firmware, dry_run: bool) -> None:
    check_probe(firmware)
    if not dry_run:
        with working(f"flashing {firmware.board.name}"):
            flash_by_probe(firmware)


def _by_file(firmware: Firmware, target: Path | None, dry_run: bool) -> Path | None:
    if dry_run:
        make_uf2(firmware)
        return None
    return write_uf2(firmware, target)
