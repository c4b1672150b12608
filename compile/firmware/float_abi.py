"""A library that programs may link to whatever registers they pass floats in.

A network's functions take pointers and integers only, so callers of either ABI can call them. But
linkers go by what objects say of themselves; here they are made to say that they fit both.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from headgate.errors import CompileError

_ARCHIVE = b"!<arch>\n"
_SYMBOLS, _ATTRIBUTES = 2, 0x70000003
"""Types of ELF sections; the second is of Addenda to the ABI for the Arm Architecture."""
_WITHOUT_FLOATS = ("mem", "__aeabi_")
"""What begins the names of functions that pass none, or the same way in either ABI."""
_WHOLE_FILE, _VFP_ARGS, _COMPATIBILITY = 1, 28, 32
_IN_VFP_REGISTERS, _EITHER = 1, 3
_TEXTS = {4, 5}
"""Attributes below 32 whose values are texts."""


def fit_either_float_abi(library: bytes) -> bytes:
    """The archive, each object of which says that it passes no floats to others.

    One that calls functions such as expf does pass them, and is given back as it is.
    """
    if passes_floats(library):
        return library
    changed = bytearray(library)
    for start, size in _members(library):
        if library[start : start + 4] == b"\x7fELF":
            for place in _vfp_args(library[start : start + size]):
                changed[start + place] = _EITHER
    return bytes(changed)


def passes_floats(library: bytes) -> bool:
    """Whether the archive calls functions of C's library such as expf."""
    return not all(name.startswith(_WITHOUT_FLOATS) for name in _outside(library))


def _outside(library: bytes) -> set[str]:
    """Names that the archive's objects use and none of them defines."""
    used, defined = set[str](), set[str]()
    for start, size in _members(library):
        elf = library[start : start + size]
        sections = list(_sections(elf)) if elf.startswith(b"\x7fELF") else []
        for kind, offset, length, names in sections:
            if kind != _SYMBOLS:
                continue
            for at in range(offset, offset + length, 16):
                name, _, _, _, _, section = struct.unpack_from("<3IBBH", elf, at)
                text = sections[names][1] + name
                group = defined if section else used
                group.add(elf[text : elf.index(b"\0", text)].decode())
    return used - defined - {""}


def _sections(elf: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Type, offset, length and linked section of each."""
    (start,) = struct.unpack_from("<I", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 46)
    for index in range(count):
        _, kind, _, _, *rest = struct.unpack_from("<7I", elf, start + index * size)
        yield (kind, *rest)


def _members(library: bytes) -> Iterator[tuple[int, int]]:
    """Where the archive's files begin, and their sizes."""
    if not library.startswith(_ARCHIVE):
        raise CompileError("the library is no archive")
    at = len(_ARCHIVE)
    while at < len(library):
        size = int(library[at + 48 : at + 58])
        yield at + 60, size
        at += 60 + size + size % 2


def _vfp_args(elf: bytes) -> Iterator[int]:
    """Where an object says that it passes floats in the FPU's registers."""
    for kind, offset, length, _ in _sections(elf):
        if kind == _ATTRIBUTES:
            yield from _of_section(elf, offset, length)


def _of_section(elf: bytes, start: int, length: int) -> Iterator[int]:
    at, end = start + 1, start + length  # behind the version
    while at < end:
        (size,) = struct.unpack_from("<I", elf, at)
        vendor = elf.index(b"\0", at + 4)
        if elf[at + 4 : vendor] == b"aeabi":
            tag, (of_file,) = elf[vendor + 1], struct.unpack_from("<I", elf, vendor + 2)
            if tag == _WHOLE_FILE:
                yield from _of_file(elf, vendor + 6, vendor + 1 + of_file)
        at += size


def _of_file(elf: bytes, at: int, end: int) -> Iterator[int]:
    while at < end:
        tag, at = _number(elf, at)
        value = at
        if tag in _TEXTS or (tag > _COMPATIBILITY and tag % 2):
            at = elf.index(b"\0", at) + 1
            continue
        number, at = _number(elf, at)
        if tag == _COMPATIBILITY:
            at = elf.index(b"\0", at) + 1
        if tag == _VFP_ARGS and number == _IN_VFP_REGISTERS:
            yield value


def _number(elf: bytes, at: int) -> tuple[int, int]:
    """A ULEB128 and where it ends."""
    value = shift = 0
    while True:
        byte = elf[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
