"""Frames on a serial line, as firmware has them in ``runtime/baremetal/frame.h``.

``0xA5 0x5A | kind | sequence | length, 2 | check, 2 | payload | CRC-32, 4``, little-endian. The
check is the lower half of the CRC-32 of kind, sequence and length, so that a garbled length is not
believed; the CRC-32 at the end is of all from the kind on.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

START = b"\xa5\x5a"
MAX_PAYLOAD = 1024
"""FRAME_PAYLOAD of frame.h, bytes."""
_HEADER, _CRC = 8, 4


@dataclass(frozen=True)
class Frame:
    """One message; ``sequence`` is 0 to 255, the payload at most MAX_PAYLOAD bytes."""

    kind: int
    sequence: int
    payload: bytes = b""

    def encode(self) -> bytes:
        """Its bytes on the line."""
        head = struct.pack("<BBH", self.kind, self.sequence, len(self.payload))
        body = head + struct.pack("<H", zlib.crc32(head) & 0xFFFF) + self.payload
        return START + body + struct.pack("<I", zlib.crc32(body))


class Decoder:
    """Finds the frames in what a line brings; what is no frame is dropped."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole with ``data``."""
        self._bytes += data
        found: list[Frame] = []
        while True:
            start = self._bytes.find(START)
            if start < 0:
                # The last byte may be the first of a frame.
                del self._bytes[: max(0, len(self._bytes) - 1)]
                return found
            del self._bytes[:start]
            if len(self._bytes) < _HEADER:
                return found
            kind, sequence, length, check = struct.unpack_from("<BBHH", self._bytes, len(START))
            if length > MAX_PAYLOAD or zlib.crc32(self._bytes[2:6]) & 0xFFFF != check:
                del self._bytes[:1]
                continue
            end = _HEADER + length
            if len(self._bytes) < end + _CRC:
                return found
            (crc,) = struct.unpack_from("<I", self._bytes, end)
            if zlib.crc32(self._bytes[2:end]) != crc:
                del self._bytes[:1]  # a frame may begin inside one that lost bytes
                continue
            found.append(Frame(kind, sequence, bytes(self._bytes[_HEADER:end])))
            del self._bytes[: end + _CRC]
