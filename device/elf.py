"""The parts of a program for a microcontroller that are loaded: 32-bit ELF, little-endian."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from headgate.device.microcontrollers import Memory
from headgate.errors import InputError

_MAGIC = b"\x7fELF\x01\x01\x01"
_ARM = 40
_LOAD = 1


@dataclass(frozen=True)
class Segment:
    """Bytes that are stored at ``load_address``, and take ``memory_bytes`` at ``address``."""

    load_address: int
    address: int
    data: bytes
    memory_bytes: int


def load_segments(program: bytes) -> list[Segment]:
    """Those of an ELF file; an InputError if it is none for Arm, or is cut off."""
    if not program.startswith(_MAGIC):
        raise InputError("it is no 32-bit ELF file; give the program that the project builds")
    try:
        machine, start, size, count = (
            *struct.unpack_from("<H", program, 18),
            *struct.unpack_from("<I", program, 28),
            *struct.unpack_from("<HH", program, 42),
        )
        headers = [struct.unpack_from("<8I", program, start + i * size) for i in range(count)]
    except struct.error as error:
        raise InputError("the ELF file is cut off; build it again") from error
    if machine != _ARM:
        raise InputError(f"the ELF file is for machine {machine}, not for Arm ({_ARM})")
    found = []
    for kind, offset, address, load_address, stored, memory, *_ in headers:
        if kind != _LOAD:
            continue
        data = program[offset : offset + stored]
        if len(data) != stored:
            raise InputError("the ELF file is cut off; build it again")
        found.append(Segment(load_address, address, data, memory))
    return found


def flash_image(segments: Sequence[Segment], flash: Memory) -> tuple[int, bytes]:
    """Where in flash a program begins, and its bytes from there on; gaps are 0xFF.

    An InputError if something is to be stored elsewhere, or nothing is.
    """
    stored = sorted((one for one in segments if one.data), key=lambda one: one.load_address)
    if not stored:
        raise InputError("the program is empty; build it again")
    for one in stored:
        end = one.load_address + len(one.data)
        if one.load_address < flash.address or end > flash.address + flash.bytes:
            raise InputError(
                f"the program has bytes at {one.load_address:#010x}, and the board's flash is "
                f"{flash.kib} KB at {flash.address:#010x}; is it of another board?"
            )
    start = stored[0].load_address
    image = bytearray(b"\xff" * (stored[-1].load_address + len(stored[-1].data) - start))
    for one in stored:
        at = one.load_address - start
        image[at : at + len(one.data)] = one.data
    return start, bytes(image)
