"""Any picture that Pillow opens, as 8-bit RGB: the same for training, running and calibration.

Left out, as everybody does who trains on photographs: transparency and EXIF's orientation.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

# Pillow's warning about half the size at which it refuses names no file, and large photographs are
# no attack. Whoever has asked for another treatment of it gets that.
warnings.filterwarnings(
    "ignore", "Image size .* could be decompression bomb", RuntimeWarning, append=True
)

_SIXTEEN_BITS = 65535
# The format whose greys of more than 8 bits Pillow hands out in 32 bits, scaled to 16.
_SCALED_TO_SIXTEEN_BITS = "PPM"
_TIFF_BITS, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


def to_rgb(image: Image.Image) -> Image.Image:
    """``image`` in mode RGB; black is 0 and white 255, however many bits a pixel had.

    A ValueError: which of its numbers is white is not known (32-bit integers, floating point).
    """
    mode = image.mode
    if mode == "F" or (mode == "I" and image.format != _SCALED_TO_SIXTEEN_BITS):
        kind = "floating-point numbers" if mode == "F" else "integers of 32 bits"
        raise ValueError(f"its pixels are {kind}, and which of them is white is not known")
    if mode == "I" or mode.startswith("I;16"):
        return _eight_bits(image).convert("RGB")
    if mode in ("La", "RGBa"):  # colours multiplied by their opacity
        image = image.convert("LA" if mode == "La" else "RGBA")
    elif mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB it warns
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Greys of up to 16 bits, to the nearest of 256."""
    from PIL import Image  # boards may do without it

    tags = getattr(image, "tag_v2", {})  # of a TIFF, which may have 12 bits, or black as the most
    white = 2 ** tags[_TIFF_BITS][0] - 1 if _TIFF_BITS in tags else _SIXTEEN_BITS
    levels = np.asarray(image).astype(np.uint32)
    grey = ((levels * 255 + white // 2) // white).astype(np.uint8)
    if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    return Image.fromarray(grey)
