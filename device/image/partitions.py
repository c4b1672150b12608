"""Where the boot partition lies in a disk image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from headgate.device.flash import mbr
from headgate.errors import InputError

_FAT_TYPES = {0x01, 0x04, 0x06, 0x0B, 0x0C, 0x0E}


@dataclass(frozen=True)
class Partition:
    """A part of a disk image, in bytes."""

    offset: int
    size_bytes: int


def find_boot_partition(image: BinaryIO, name: str) -> Partition:
    """The first FAT partition of an image with an MBR, as all images for Raspberry Pi have.

    Raises:
        InputError: there is none; ``name`` says in the message of what.
    """
    image.seek(0)
    entries = mbr.read_table(image.read(mbr.SECTOR_BYTES), name)
    if any(entry.kind == mbr.GPT_TYPE for entry in entries):
        raise InputError(f"{name} has a GPT, which images for Raspberry Pi do not; use another")
    image.seek(0, 2)
    end = image.tell()
    for entry in entries:
        if entry.kind in _FAT_TYPES:
            if entry.start + entry.size > end:
                raise InputError(f"{name} is truncated: its boot partition ends after the file")
            return Partition(entry.start, entry.size)
    raise InputError(f"{name} has no FAT partition to boot from")
