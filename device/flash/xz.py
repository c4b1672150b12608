"""What an .xz file unpacks to, and how long that is, which the indexes of its streams tell.

The format: https://tukaani.org/xz/xz-file-format.txt
"""

from __future__ import annotations

import lzma
import os
import struct
import zlib
from typing import BinaryIO

_HEADER_BYTES = _FOOTER_BYTES = 12
_FOOTER_MAGIC = b"YZ"
_PADDING_BYTES = 4
_READ_BYTES = 65536


def unpacked_bytes(file: BinaryIO) -> int | None:
    """None where the indexes cannot be read: unpacking it will tell what is wrong, if anything."""
    end, total = file.seek(0, os.SEEK_END), 0
    try:
        while end > 0:
            end, size = _stream_before(file, _before_padding(file, end))
            total += size
    except (ValueError, IndexError, struct.error):
        return None
    return total


def _before_padding(file: BinaryIO, end: int) -> int:
    """Where the zeros begin that may lie between a stream's end and ``end``."""
    while end > 0:
        begin = max(0, end - _READ_BYTES)
        file.seek(begin)
        if kept := len(file.read(end - begin).rstrip(b"\0")):
            return begin + kept
        end = begin
    return end


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


class Reader:
    """What a file unpacks to: one stream or several, with padding after each.

    ``LZMAFile`` takes padding for a stream that is cut off, and whatever it does not understand
    behind the first stream for the end.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ)

    def read(self, size: int) -> bytes:
        """Up to so many bytes; an EOFError where it ends within a stream, an LZMAError else."""
        while True:
            packed = b""
            if self._stream.eof:
                packed = self._behind_padding()
                if not packed:
                    return b""
                self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ)
            elif self._stream.needs_input:
                packed = self._file.read(_READ_BYTES)
                if not packed:
                    raise EOFError("it ends too early")
            if data := self._stream.decompress(packed, size):
                return data

    def _behind_padding(self) -> bytes:
        """The beginning of the next stream; nothing at the end of the file."""
        data, padding = self._stream.unused_data, 0
        while True:
            rest = data.lstrip(b"\0")
            padding += len(data) - len(rest)
            if rest or not (data := self._file.read(_READ_BYTES)):
                break
        if padding % _PADDING_BYTES:
            raise lzma.LZMAError("padding that is no multiple of four bytes")
        return rest
