"""Thumb instructions told apart by their encoding, as far as they differ in cycles.

QEMU writes down their names as well, but knows none of Helium's, and takes the second half of one
for the next instruction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What an instruction does, where that matters for its cycles."""

    LOAD = "one register from memory"
    STORE = "one register to memory"
    DOUBLE = "two registers from or to memory"
    MULTIPLE = "several registers from or to memory"
    DIVIDE = "an integer division"
    DIVIDE_FLOAT = "a division or a root of floats"
    VECTOR = "an instruction of Helium"
    LOOP_END = "the end of a low-overhead loop"
    OTHER = "anything else"


@dataclass(frozen=True)
class Instruction:
    """The halfwords ``code`` at an address; ``registers`` of a MULTIPLE."""

    at: int
    code: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return 2 * len(self.code)

    @property
    def kind(self) -> Kind:
        return _short(self.code[0])[0] if len(self.code) == 1 else _long(*self.code)[0]

    @property
    def registers(self) -> int:
        return _short(self.code[0])[1] if len(self.code) == 1 else _long(*self.code)[1]


def decoded(at: int, code: Sequence[int]) -> Iterator[Instruction]:
    """The instructions of ``code``, halfwords from the address ``at`` on."""
    place = 0
    while place < len(code):
        size = 2 if code[place] >> 11 in (0b11101, 0b11110, 0b11111) else 1
        yield Instruction(at + 2 * place, tuple(code[place : place + size]))
        place += size


def _single(load: bool) -> tuple[Kind, int]:
    return (Kind.LOAD if load else Kind.STORE), 1


def _short(code: int) -> tuple[Kind, int]:
    if code >> 11 == 0b01001:
        return Kind.LOAD, 1
    if code >> 12 == 0b0101:
        return _single(code >> 9 & 7 >= 3)
    if 0x6000 <= code < 0xA000:
        return _single(bool(code & 0x0800))
    if code & 0xF600 == 0xB400:
        return Kind.MULTIPLE, (code & 0x1FF).bit_count()
    if code >> 12 == 0b1100:
        return Kind.MULTIPLE, (code & 0xFF).bit_count()
    return Kind.OTHER, 0


def _long(first: int, second: int) -> tuple[Kind, int]:
    if first & 0xEC00 == 0xEC00:
        return _coprocessor(first, second)
    if first & 0xFE40 == 0xE800:
        return Kind.MULTIPLE, second.bit_count()
    if first & 0xFE40 == 0xE840 and first & 0x0120:
        return Kind.DOUBLE, 2
    if first & 0xFE00 == 0xF800:
        hint = second >> 12 == 15 and first & 0x0070 != 0x0050
        return (Kind.OTHER, 0) if hint else _single(bool(first & 0x0010))
    if first & 0xFFD0 == 0xFB90:
        return Kind.DIVIDE, 0
    if first & 0xFFCF == 0xF00F and second & 0xF001 == 0xC001:
        return Kind.LOOP_END, 0
    return Kind.OTHER, 0


def _coprocessor(first: int, second: int) -> tuple[Kind, int]:
    """Of floats, which say 9 for 16 bits, 10 for 32 and 11 for 64; nearly all others are Helium."""
    top, number = first >> 8, second >> 8 & 15
    copies = first & 0xFF90 == 0xEE80 and second & 0x0F5F == 0x0B10  # one number to all lanes
    if number not in (9, 10, 11) or top in (0xEF, 0xFF) or copies:
        return Kind.VECTOR, 0
    if first & 0xFF20 == 0xED00:
        return _single(bool(first & 0x0010))
    if first & 0xFE00 == 0xEC00 and first & 0xFFE0 != 0xEC40:
        return Kind.MULTIPLE, (second & 0xFF) // (2 if number == 11 else 1)
    divides = first & 0xFFB0 == 0xEE80 and second & 0x0050 == 0
    if divides or (first & 0xFFBF == 0xEEB1 and second & 0x00D0 == 0x00C0):
        return Kind.DIVIDE_FLOAT, 0
    return Kind.OTHER, 0
