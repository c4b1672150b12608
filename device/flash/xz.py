"""What an .xz file unpacks to, from the indexes that end its streams, without unpacking it.

The format: https://tukaani.org/xz/xz-file-format.txt
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import BinaryIO

_HEADER_BYTES = _FOOTER_BYTES = 12
_FOOTER_MAGIC = b"YZ"


def unpacked_bytes(file: BinaryIO) -> int | None:
    """None where the indexes cannot be read: unpacking it will tell what is wrong, if anything.

    Raises:
        OSError: the file cannot be read.
    """
    end, total = file.seek(0, os.SEEK_END), 0
    try:
        while end > 0:
            end, size = _stream_before(file, end)
            total += size
    except (ValueError, IndexError, struct.error):
        return None
    return total


def _stream_before(file: BinaryIO, end: int) -> tuple[int, int]:
    """Where the stream that ends at ``end`` begins, and what it unpacks to."""
    footer = _read(file, end - _FOOTER_BYTES, _FOOTER_BYTES)
    checksum, words = struct.unpack("<II", footer[:8])
    if footer[10:] != _FOOTER_MAGIC or zlib.crc32(footer[4:10]) != checksum:
        raise ValueError("no footer")
    length = (words + 1) * 4
    begin = end - _FOOTER_BYTES - length
    index = _read(file, begin, length)
    if index[0] != 0 or zlib.crc32(index[:-4]) != struct.unpack("<I", index[-4:])[0]:
        raise ValueError("no index")
    blocks, place = _number(index, 1)
    total = 0
    for _ in range(blocks):
        packed, place = _number(index, place)
        size, place = _number(index, place)
        # Blocks are padded to four bytes, which their sizes in the index do not say.
        begin -= (packed + 3) // 4 * 4
        total += size
    if begin < _HEADER_BYTES:
        raise ValueError("blocks are missing")
    return begin - _HEADER_BYTES, total


def _read(file: BinaryIO, begin: int, length: int) -> bytes:
    if begin < _HEADER_BYTES:
        raise ValueError("too short")
    file.seek(begin)
    data = file.read(length)
    if len(data) < length:
        raise ValueError("it got shorter")
    return data


def _number(data: bytes, place: int) -> tuple[int, int]:
    """Seven bits in each byte, least significant first, and where the next number begins."""
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
