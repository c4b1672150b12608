"""UF2, the file format that boot ROMs take over USB: 512-byte blocks, each with its address.

https://github.com/microsoft/uf2 has the format.
"""

from __future__ import annotations

import struct

from headgate.device.microcontrollers import Memory
from headgate.errors import InputError

_FIRST, _SECOND, _LAST = 0x0A324655, 0x9E5D5157, 0x0AB16F30
_HAS_FAMILY = 0x2000
_BLOCK, _PAYLOAD = 512, 256
_HEADER = struct.Struct("<8I")


def to_uf2(address: int, image: bytes, family: int) -> bytes:
    """The file that stores ``image`` from ``address`` on; its last page is filled with 0xFF.

    ``address`` is a multiple of 256, which flash is programmed in.
    """
    if address % _PAYLOAD:
        raise InputError(f"the program begins at {address:#010x}, not at a multiple of {_PAYLOAD}")
    count = -(-len(image) // _PAYLOAD)
    blocks = []
    for index in range(count):
        at = index * _PAYLOAD
        page = image[at : at + _PAYLOAD].ljust(_PAYLOAD, b"\xff")
        header = (_FIRST, _SECOND, _HAS_FAMILY, address + at, _PAYLOAD, index, count, family)
        block = (_HEADER.pack(*header) + page).ljust(_BLOCK - 4, b"\0")
        blocks.append(block + struct.pack("<I", _LAST))
    return b"".join(blocks)


def read_uf2(data: bytes, family: int, flash: Memory) -> tuple[int, bytes]:
    """The address and image that a file stores in ``flash``.

    An InputError names the first block that a boot ROM would not take, or would store elsewhere
    than behind the block in front of it.
    """
    count, rest = divmod(len(data), _BLOCK)
    if rest or not count:
        raise InputError(f"a UF2 file has blocks of {_BLOCK} bytes, this one {len(data)} bytes")
    start, pages = 0, list[bytes]()
    for index in range(count):
        block = data[index * _BLOCK : (index + 1) * _BLOCK]
        first, second, flags, address, size, number, total, found = _HEADER.unpack_from(block)
        start = start if pages else address
        last = struct.unpack_from("<I", block, _BLOCK - 4)[0]
        inside = flash.address <= address <= flash.address + flash.bytes - _PAYLOAD
        wanted = {
            "magic numbers": (first, second, last) == (_FIRST, _SECOND, _LAST),
            "flags": flags == _HAS_FAMILY,
            "family": found == family,
            "number": (number, total) == (index, count),
            "size": size == _PAYLOAD,
            "address": inside and address == start + index * _PAYLOAD and not address % _PAYLOAD,
        }
        if wrong := [what for what, right in wanted.items() if not right]:
            raise InputError(f"block {index} of the UF2 file has a wrong {wrong[0]}")
        pages.append(block[_HEADER.size : _HEADER.size + _PAYLOAD])
    return start, b"".join(pages)
