"""The partition table in the first sector of a disk image."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from headgate.errors import InputError

SECTOR_BYTES = 512
GPT_TYPE = 0xEE
"""Of the entry that stands for a GPT, whose own table lies elsewhere."""
_UNUSED = 0x00
_SIGNATURE = b"\x55\xaa"
_TABLE_AT, _ENTRY = 446, struct.Struct("<4xB3xII")


@dataclass(frozen=True)
class Entry:
    """A partition; where it lies is in bytes."""

    kind: int
    start: int
    size: int


def read_table(sector: bytes, name: str) -> list[Entry]:
    """The partitions that the beginning of an image lists.

    Raises:
        InputError: there is no table; ``name`` says in the message of what.
    """
    if sector[SECTOR_BYTES - len(_SIGNATURE) : SECTOR_BYTES] != _SIGNATURE:
        raise InputError(f"{name} is no disk image: it has no partition table")
    table = sector[_TABLE_AT : _TABLE_AT + 4 * _ENTRY.size]
    return [
        Entry(kind, first * SECTOR_BYTES, count * SECTOR_BYTES)
        for kind, first, count in _ENTRY.iter_unpack(table)
        if kind != _UNUSED
    ]
