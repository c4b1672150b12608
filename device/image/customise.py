"""An operating system's image, made into one that measures a bundle on its first boot.

Everything goes to the FAT partition, which any laptop reads and nobody needs root for.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path
from typing import BinaryIO

from headgate.device.agent_archive import FILE_NAME, agent_archive, on_board_archive
from headgate.device.boards import Kind, kinds
from headgate.device.bundle import Bundle
from headgate.device.files import atomic_write
from headgate.device.flash.mbr import find_boot_partition
from headgate.device.flash.source import ImageSource
from headgate.device.image import cloud_init, first_run, on_board
from headgate.device.image.fat import BootPartition, open_name
from headgate.device.image.settings import Settings
from headgate.device.protocol import RUNNER
from headgate.errors import BundleError, InputError, StorageError, UsageError, suggest

FOLDER = "headgate"
REPORT = f"{FOLDER}/report.json"
"""Where the first boot's report appears on the boot partition."""
_CMDLINE = "cmdline.txt"
# What Raspberry Pi's firmware looks for by itself; any other name may be anything.
_KERNELS_OF_32_BITS = {"kernel.img", "kernel7.img", "kernel7l.img"}
_HERE = Path(__file__).parent
# Left on the partition beside what is written, for the report, the log and FAT's own needs.
_SPARE_BYTES = 16 * 1024 * 1024


def find_kind(board: str) -> Kind:
    raspberries = {name: kind for name, kind in kinds().items() if name.startswith("rpi")}
    if board in raspberries:
        return raspberries[board]
    if board in kinds():
        raise UsageError(
            f"--board {board}: images are for Raspberry Pi; on a Jetson, flash NVIDIA's system and "
            "use headgate deploy"
        )
    raise UsageError(f"unknown --board {board!r}.{suggest(board, raspberries)}")


def make_image(base: Path, output: Path, board: str, bundle: Path, settings: Settings) -> str:
    """Copy a base image, unpacked, and customise the copy; the form of its first boot.

    Equal input gives an equal image.

    Raises:
        UsageError: the board is unknown.
        BundleError: the bundle is damaged, or for another board.
        InputError: the base is no image, damaged, or of a system that cannot be customised.
        StorageError: there is no room for it.
        ToolMissing: mtools is not installed.
    """
    kind, opened = find_kind(board), Bundle.open(bundle)
    if opened.target["name"] != kind.target:
        raise BundleError(
            f"{bundle} is compiled for {opened.target['name']}, {board} needs --target "
            f"{kind.target}: compile it again"
        )
    if RUNNER not in opened.members:
        raise BundleError(f"{bundle} has no {RUNNER}, which the board needs; compile it again")
    must_not_be(output, base, "base image")
    must_not_be(output, bundle, "bundle")
    with atomic_write(output) as file:
        # Opened again by its number, so that mtools writes to it before it has its name.
        inner = open_name(file.fileno())
        with ImageSource(base) as source:
            _copy(source, file)
        file.flush()
        return customise(inner, kind, bundle.read_bytes(), settings, name=str(base))


def must_not_be(output: Path, source: Path, what: str) -> None:
    """Refuse an output that is one of the inputs, under whatever name: a UsageError."""
    same = os.path.realpath(output) == os.path.realpath(source)
    with suppress(OSError):
        same = same or os.path.samefile(output, source)
    if same:
        raise UsageError(f"{output} is the {what}; choose another name for the new image")


def customise(image: Path, kind: Kind, bundle: bytes, settings: Settings, name: str) -> str:
    """Change an image in place: ``cloud-init`` or ``firstrun.sh``, whichever it is made for.

    ``name`` is its name in messages. Raises what :func:`make_image` does.
    """
    with image.open("r+b") as file:
        boot = BootPartition(file.fileno(), find_boot_partition(file, name))
        line = boot.read(_CMDLINE)
        if line is None:
            raise InputError(f"{name} has no {_CMDLINE}: it is no system for Raspberry Pi")
        _check_boots(boot.names(), kind, name)
        if boot.read(f"{FOLDER}/setup.sh") is not None or b"systemd.run=" in line:
            raise InputError(f"{name} was customised before; take the image as it was downloaded")
        has_cloud_init = boot.read(cloud_init.USER_DATA) is not None
        contents = _files(bundle)
        if has_cloud_init:
            instance = f"headgate-{_fingerprint(contents, settings)}"
            personal = cloud_init.files(settings, instance)
            addition = cloud_init.cmdline(instance)
        else:
            personal = {first_run.SCRIPT: first_run.script(settings)}
            addition = first_run.CMDLINE
        contents |= {name: text.encode() for name, text in personal.items()}
        country = f" cfg80211.ieee80211_regdom={settings.wifi.country}" if settings.wifi else ""
        words = line.decode(errors="surrogateescape").split()
        kept = [word for word in words if not word.startswith("ds=")]
        command_line = " ".join([*kept, addition]) + country + "\n"
        contents[_CMDLINE] = command_line.encode(errors="surrogateescape")
        _check_room(boot, contents)
        boot.make_folder(FOLDER)
        for path, data in contents.items():
            boot.write(path, data)
        return "cloud-init" if has_cloud_init else "firstrun.sh"


def _check_boots(names: list[str], kind: Kind, name: str) -> None:
    """Without its device tree a board stays dark, and says nothing."""
    # Some systems keep them in a folder.
    files = {path.rpartition("/")[2] for path in names}
    wanted = [f"{prefix}*.dtb" for prefix in kind.device_trees]
    if not any(fnmatch(file, pattern) for file in files for pattern in wanted):
        raise InputError(
            f"{name} has no device tree for --board {kind.name} ({' or '.join(wanted)}), which "
            "would not start; take an image that is made for this board"
        )
    kernels = {file for file in files if file.startswith(("kernel", "vmlinuz"))}
    if kernels and kernels <= _KERNELS_OF_32_BITS:
        raise InputError(
            f"{name} has no 64-bit kernel, only {', '.join(sorted(kernels))}; take the 64-bit "
            "image of that system"
        )


def _copy(source: ImageSource, file: BinaryIO) -> None:
    size = 0
    for chunk in source.chunks():
        # Holes stay holes: a card's image is mostly empty.
        if chunk.count(0) != len(chunk):
            file.seek(size)
            file.write(chunk)
        size += len(chunk)
    file.truncate(size)


def _files(bundle: bytes) -> dict[str, bytes]:
    """What is the same for every system, by its name on the boot partition."""
    board = {path.name: path.read_bytes() for path in sorted((_HERE / "board").iterdir())}
    board[on_board.FILE_NAME] = on_board_archive()
    board[FILE_NAME] = agent_archive()
    board["bundle.hgb"] = bundle
    return {f"{FOLDER}/{name}": data for name, data in sorted(board.items())}


def _fingerprint(contents: dict[str, bytes], settings: Settings) -> str:
    digest = hashlib.sha256(json.dumps(asdict(settings), sort_keys=True).encode())
    for name, data in contents.items():
        digest.update(name.encode() + hashlib.sha256(data).digest())
    return digest.hexdigest()[:16]


def _check_room(boot: BootPartition, contents: dict[str, bytes]) -> None:
    needed = sum(map(len, contents.values())) + _SPARE_BYTES
    free = boot.free_bytes()
    if needed > free:
        raise StorageError(
            f"the image's boot partition has {free / 1e6:.0f} MB free and {needed / 1e6:.0f} MB "
            "are needed; deploy this bundle over ssh instead: headgate deploy"
        )
