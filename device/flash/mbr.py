"""The partition table in the first sector of a disk image."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from headgate.errors import InputError

SECTOR_BYTES = 512
GPT_TYPE = 0xEE
"""Of the entry that stands for a GPT, whose own table lies elsewhere."""
_UNUSED = 0x00
_FAT_TYPES = {0x01, 0x04, 0x06, 0x0B, 0x0C, 0x0E}
_SIGNATURE = b"\x55\xaa"
_TABLE_AT, _ENTRY = 446, struct.Struct("<4xB3xII")


@dataclass(frozen=True)
class Entry:
    """A partition; where it lies is in bytes."""

    kind: int
    start: int
    size: int


def read_table(sector: bytes, name: str) -> list[Entry]:
    """The partitions that the beginning of an image, ``name`` in messages, lists."""
    if sector[SECTOR_BYTES - len(_SIGNATURE) : SECTOR_BYTES] != _SIGNATURE:
        raise InputError(f"{name} is no disk image: it has no partition table")
    table = sector[_TABLE_AT : _TABLE_AT + 4 * _ENTRY.size]
    return [
        Entry(kind, first * SECTOR_BYTES, count * SECTOR_BYTES)
        for kind, first, count in _ENTRY.iter_unpack(table)
        if kind != _UNUSED
    ]


def find_boot_partition(image: BinaryIO, name: str) -> Entry:
    """The first FAT partition of an image with an MBR, as all images for Raspberry Pi have."""
    image.seek(0)
    entries = read_table(image.read(SECTOR_BYTES), name)
    if any(entry.kind == GPT_TYPE for entry in entries):
        raise InputError(f"{name} has a GPT, which images for Raspberry Pi do not; use another")
    image.seek(0, 2)
    end = image.tell()
    for entry in entries:
        if entry.kind in _FAT_TYPES:
            if entry.start + entry.size > end:
                raise InputError(f"{name} is truncated: its boot partition ends after the file")
            return entry
    raise InputError(f"{name} has no FAT partition to boot from")
