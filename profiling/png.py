"""Small PNG pictures without a library, for pages that refer to no file.

PNG, W3C recommendation (2003), with one IDAT chunk and no filter.
"""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from headgate.errors import InputError

LARGEST = 96  # pixels on a side; larger pictures are thinned


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """A picture (H, W, 3) or (H, W, 1) of 8 bits a channel.

    Raises:
        InputError: Another type or shape.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise InputError(
            f"a picture is uint8 (H, W, 3) or (H, W, 1), not {pixels.dtype} {pixels.shape}"
        )
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    rows = pixels.reshape(height, width * channels)
    scanlines = np.hstack([np.zeros((height, 1), np.uint8), rows]).tobytes()
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(scanlines, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def data_uri(pixels: NDArray[np.uint8]) -> str:
    """The picture as ``data:image/png;base64,...``, thinned to at most 96 pixels a side."""
    step = -(-max(pixels.shape[:2]) // LARGEST)
    encoded = base64.b64encode(encode_png(pixels[::step, ::step]))
    return f"data:image/png;base64,{encoded.decode()}"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
