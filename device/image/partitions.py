"""Where the boot partition lies in a disk image."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from headgate.errors import InputError

SECTOR_BYTES = 512
_SIGNATURE = b"\x55\xaa"
_TABLE_AT, _ENTRY = 446, struct.Struct("<B3xB3xII")
_FAT_TYPES = {0x01, 0x04, 0x06, 0x0B, 0x0C, 0x0E}
_GPT_TYPE = 0xEE


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
    sector = image.read(SECTOR_BYTES)
    if sector[510:] != _SIGNATURE:
        raise InputError(f"{name} is no disk image: it has no partition table")
    entries = list(_ENTRY.iter_unpack(sector[_TABLE_AT : _TABLE_AT + 4 * _ENTRY.size]))
    if any(kind == _GPT_TYPE for _, kind, _, _ in entries):
        raise InputError(f"{name} has a GPT, which images for Raspberry Pi do not; use another")
    image.seek(0, 2)
    end = image.tell()
    for _, kind, start, sectors in entries:
        if kind in _FAT_TYPES:
            if (start + sectors) * SECTOR_BYTES > end:
                raise InputError(f"{name} is truncated: its boot partition ends after the file")
            return Partition(start * SECTOR_BYTES, sectors * SECTOR_BYTES)
    raise InputError(f"{name} has no FAT partition to boot from")
