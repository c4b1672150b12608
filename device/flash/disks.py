"""The disks of this machine, and which of them an image may be written to.

Everything is read below a root that stands for ``/``.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

SECTOR_BYTES = 512
"""Unit of ``/sys/block/*/size``, whatever the disk's own sectors are."""

# Mounted there: what the machine that runs this is started from.
_SYSTEM_FOLDERS = {"/", "/boot", "/boot/efi", "/boot/firmware", "/efi", "/home", "/usr", "/var"}

# Hot-plug bays inside a machine say that their disks are removable: nobody puts cards there.
_INTERNAL = ("ata", "nvme")

# eMMC shows its boot and key areas as disks of their own; optical and floppy drives start nothing
# that an image is made for.
_NO_DISKS = re.compile(r"(.*boot\d+|.*rpmb|sr\d+|fd\d+)")


@dataclass(frozen=True)
class Disk:
    """A whole disk. ``refusal`` says why no image may be written to it; None if one may.

    ``diskseq`` is a number that Linux (5.15 and newer) gives no other disk or medium until it is
    started again; empty where there is none.
    """

    name: str
    path: Path
    size_bytes: int
    model: str
    serial: str
    connection: str
    device_number: str
    removable: bool
    refusal: str | None
    diskseq: str = ""


def list_disks(root: Path = Path("/")) -> list[Disk]:
    """Every disk with a place in ``/sys/block`` and a device behind it, by name.

    Loop devices, RAM disks, RAID and encrypted volumes have none: they are no disks.
    """
    folder = root / "sys/block"
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    users = _users(root)
    return [
        _disk(root, name, users)
        for name in names
        if (folder / name / "device").exists() and not _NO_DISKS.fullmatch(name)
    ]


def _disk(root: Path, name: str, users: dict[str, list[str]]) -> Disk:
    block = root / "sys/block" / name
    connection = _connection(block)
    # Card readers and USB sticks say 1 here; USB hard disks and SD slots say 0, but can be pulled.
    says_so = _text(block / "removable") == "1" and connection not in _INTERNAL
    removable = says_so or connection in ("usb", "sd")
    model = _text(block / "device/model") or _text(block / "device/name")
    size_bytes = int(_text(block / "size") or 0) * SECTOR_BYTES
    return Disk(
        name=name,
        path=root / "dev" / name,
        size_bytes=size_bytes,
        model=f"{_text(block / 'device/vendor')} {model}".strip(),
        serial=_serial(block),
        connection=connection,
        device_number=_text(block / "dev"),
        removable=removable,
        refusal=_refusal(block, removable, size_bytes, users),
        diskseq=_text(block / "diskseq"),
    )


def _refusal(
    block: Path, removable: bool, size_bytes: int, users: dict[str, list[str]]
) -> str | None:
    parts = [block, *(path.parent for path in sorted(block.glob("*/partition")))]
    mounted = [place for part in parts for place in users.get(_text(part / "dev"), [])]
    mounted += [place for part in parts for place in users.get(part.name, [])]
    if system := sorted(_SYSTEM_FOLDERS.intersection(mounted)):
        return f"this machine runs from it: it holds {', '.join(system)}"
    if "swap" in mounted:
        return "this machine swaps to it"
    if not removable:
        return "it is built in, not removable"
    if mounted:
        places = ", ".join(dict.fromkeys(mounted))
        return f"it is mounted at {places}; unmount it first: sudo umount {shlex.quote(mounted[0])}"
    if holders := sorted(path.name for part in parts for path in part.glob("holders/*")):
        return f"it is part of {', '.join(holders)}; stop that volume first"
    if size_bytes == 0:
        return "there is no card in it"
    if _text(block / "ro") == "1":
        return "it is write-protected; look for a switch on the card"
    return None


def _users(root: Path) -> dict[str, list[str]]:
    """Device number, or name in /dev: where it is mounted, or ``swap``."""
    found: dict[str, list[str]] = {}
    for line in _text(root / "proc/self/mountinfo").splitlines():
        fields = line.split()
        if "-" not in fields:
            continue
        place = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        found.setdefault(fields[2], []).append(place)
        # btrfs has device numbers of its own: only the name says which disk it is.
        source = fields[fields.index("-") + 2]
        if source.startswith("/dev/"):
            name = os.path.basename(os.path.realpath(root / source[1:]))
            if place not in found.setdefault(name, []):
                found[name].append(place)
    for line in _text(root / "proc/swaps").splitlines()[1:]:
        found.setdefault(os.path.basename(line.split()[0]), []).append("swap")
    return found


def _connection(block: Path) -> str:
    way = os.path.realpath(block)
    if "/usb" in way:
        return "usb"
    if "/mmc_host/" in way or "/mmc" in way:
        # A soldered eMMC chip is called MMC, a card in a slot SD.
        return "sd" if _text(block / "device/type") == "SD" else "mmc"
    for name in ("nvme", "ata", "virtio"):
        if f"/{name}" in way:
            return name
    return "other"


def _serial(block: Path) -> str:
    if serial := _text(block / "device/serial"):
        return serial
    # Of a USB disk the serial number is a property of a device further up.
    for folder in Path(os.path.realpath(block)).parents:
        if (folder / "idVendor").exists():
            return _text(folder / "serial")
    return ""


def _text(path: Path) -> str:
    """A file of /sys or /proc, empty where there is none: a disk can be pulled at any moment."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
