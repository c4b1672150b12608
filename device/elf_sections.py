"""Sizes of sections in 32-bit little-endian ELF files: objects in an archive, and programs.

Source of the layouts: System V ABI, chapters 4 and 5; the archive's is ar(5).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from headgate.device.elf import load_segments
from headgate.errors import BundleError, InputError

_MAGIC, _ARCHIVE = b"\x7fELF\x01\x01", b"!<arch>\n"
_HEADER = struct.Struct("<16xHHIIIIIHHHHHH")
_SECTION = struct.Struct("<IIIIII16x")
_NO_BITS, _WRITE, _ALLOCATED = 8, 1, 2
_MEMBER_BYTES = 60


@dataclass(frozen=True)
class Section:
    """A section that a program has in memory; ``written``: in RAM, ``stored``: in flash too."""

    name: str
    bytes: int
    written: bool
    stored: bool


def archive_sections(data: bytes) -> list[Section]:
    """Those of all objects in a static library; a BundleError if it is none."""
    try:
        return [one for member in _members(data) for one in _sections(member)]
    except (struct.error, ValueError, IndexError) as error:
        raise BundleError("the static library is damaged; recompile the bundle") from error


def stored_bytes(program: bytes) -> int:
    """What a program takes in flash: the bytes of its segments. A BundleError if it is none."""
    try:
        return sum(len(segment.data) for segment in load_segments(program))
    except InputError as error:
        raise BundleError("the firmware is damaged; recompile the bundle") from error


def _expect(data: bytes, magic: bytes) -> None:
    if not data.startswith(magic):
        raise ValueError


def _members(data: bytes) -> Iterator[bytes]:
    """The objects in an archive, without its tables."""
    _expect(data, _ARCHIVE)
    at = len(_ARCHIVE)
    while at + _MEMBER_BYTES <= len(data):
        size = int(data[at + 48 : at + 58])
        member = data[at + _MEMBER_BYTES : at + _MEMBER_BYTES + size]
        if member.startswith(_MAGIC):
            yield member
        # Members begin at even addresses.
        at += _MEMBER_BYTES + size + size % 2


def _sections(data: bytes) -> Iterator[Section]:
    _, _, _, _, _, start, _, _, _, _, size, count, names = _HEADER.unpack_from(data)
    rows = [_SECTION.unpack_from(data, start + index * size) for index in range(count)]
    for at, kind, flags, _, _, amount in rows:
        if flags & _ALLOCATED and amount:
            begin = rows[names][4] + at
            name = data[begin : data.index(b"\0", begin)].decode()
            yield Section(name, amount, bool(flags & _WRITE), kind != _NO_BITS)
