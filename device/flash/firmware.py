"""Firmware to a microcontroller: as a UF2 file on its boot ROM's drive, or by a debug probe."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from headgate.device.bundle import MANIFEST, Bundle
from headgate.device.elf import flash_image, load_segments
from headgate.device.files import atomic_write, storage_error
from headgate.device.flash.uf2 import read_uf2, to_uf2
from headgate.device.microcontrollers import Microcontroller, get_microcontroller
from headgate.device.project import SERVE, program_path, serve_path
from headgate.errors import InputError, MissingFile, UsageError

_INFO = "INFO_UF2.TXT"


@dataclass(frozen=True)
class Firmware:
    """A program for a board: an ELF file, and what it stores in flash from ``address`` on."""

    path: Path
    board: Microcontroller
    address: int
    image: bytes


def find_firmware(path: Path, board: str | None) -> Firmware:
    """The program in ``path``: an ELF file, or one of a project's.

    The folder of a bundle stands for its project's program that answers a host, the project's
    folder in it for the project's own.

    Raises:
        UsageError: the board is unknown, or not the project's; there is no such program.
        MissingFile: there is no such file, or the project is not built.
        InputError: it is no program for the board.
    """
    named = None if board is None else get_microcontroller(board)
    if path.is_dir():
        found, path = _of_project(path)
        if named is not None and named != found:
            raise UsageError(f"{path} is for {found.name}")
        named = found
    if named is None:
        raise UsageError(f"which board is {path} for? Give --board")
    try:
        program = path.read_bytes()
    except FileNotFoundError as error:
        raise MissingFile(f"no program {path}; build the project, or check the path") from error
    except OSError as error:
        raise storage_error("read", path, error) from error
    try:
        address, image = flash_image(load_segments(program), named.flash)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return Firmware(path, named, address, image)


def is_project(path: Path) -> bool:
    """Whether ``path`` is the folder of a bundle's project."""
    folder = path.resolve().parent
    if not path.is_dir() or not (folder / MANIFEST).is_file():
        return False
    note = Bundle.open(folder).facts.project
    return note is not None and note.name == path.resolve().name


def _of_project(path: Path) -> tuple[Microcontroller, Path]:
    """The board of a folder's project, and the program that the folder stands for."""
    own = is_project(path)
    folder = path.resolve().parent if own else path
    note = Bundle.open(folder).facts.project
    if note is None:
        raise UsageError(f"{path} has no project; compile it again with --project NAME --board")
    board = get_microcontroller(note.board)
    if own:
        return board, path / Path(program_path(note.name)).relative_to(note.name)
    if f"{SERVE}/serve.c" not in note.files:
        # What a bundle notes does not say whether room was short or serve/ not yet known.
        reason, again = (
            (f"for which {board.name} has no driver", "")
            if board.uart is None
            else ("compiled by an older headgate or without room for it", "compile it again, or ")
        )
        raise UsageError(
            f"the project {note.name} has no program that answers on a serial line, {reason}; "
            f"{again}flash its own: headgate flash {path / note.name}"
        )
    return board, path / serve_path(note.name)


def make_uf2(firmware: Firmware) -> bytes:
    """The UF2 file, which read back is the program; a UsageError for boards that take none."""
    board = firmware.board
    if board.uf2_family is None:
        raise UsageError(f"{board.name} takes no UF2 file")
    data = to_uf2(firmware.address, firmware.image, board.uf2_family)
    address, image = read_uf2(data, board.uf2_family, board.flash)
    if address != firmware.address or image.rstrip(b"\xff") != firmware.image.rstrip(b"\xff"):
        raise InputError(f"the UF2 file of {firmware.path} does not hold what it was made of")
    return data


def write_uf2(firmware: Firmware, target: Path | None) -> Path:
    """Writes the UF2 file whole or not at all; where it is.

    Args:
        target: the drive of a board that waits for one, or a file; None: beside the program.

    Raises:
        UsageError: a folder that is no such drive, or another chip's.
        StorageError: it cannot be written.
    """
    data = make_uf2(firmware)
    path = target or firmware.path.with_suffix(".uf2")
    if path.is_dir():
        return _to_drive(data, path, firmware)
    with atomic_write(path) as file:
        file.write(data)
    return path


def _to_drive(data: bytes, drive: Path, firmware: Firmware) -> Path:
    """To the boot ROM's drive, which programs each block as it comes and restarts after the last.

    The board runs nothing of a file that was not whole: it restarts when it has every block.
    """
    _check_drive(drive, firmware.board)
    path, written = drive / firmware.path.with_suffix(".uf2").name, False
    try:
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            written = True
            os.fsync(file.fileno())
    except OSError as error:
        # The drive goes when the board restarts, which may be before the system has heard back.
        if not (written and not (drive / _INFO).exists()):
            with contextlib.suppress(OSError):
                path.unlink()
            raise storage_error("write", path, error) from error
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    return path


def _check_drive(drive: Path, board: Microcontroller) -> None:
    try:
        info = (drive / _INFO).read_text(encoding="ascii", errors="replace")
    except FileNotFoundError as error:
        raise UsageError(
            f"{drive} has no {_INFO}, so it is no board that waits for a UF2 file; hold BOOTSEL "
            "while plugging the board in, and give the drive that appears"
        ) from error
    except OSError as error:
        raise storage_error("read", drive / _INFO, error) from error
    key = "Board-ID:"
    found = [line.removeprefix(key).strip() for line in info.splitlines() if line.startswith(key)]
    if found != [board.uf2_board]:
        raise UsageError(
            f"{drive} is of board {', '.join(found) or '?'}, and {board.name} is {board.uf2_board}"
        )
