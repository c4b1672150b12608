"""What channels removed from a residual branch cost TFLite, and the cheaper way to do without them.

A pruned convolution in front of a residual sum computes K channels where the sum has C. XNNPACK has
no gather, and padding and gathering outside of its partition take 2 % to 70 % longer (LiteRT on
x86) than a 1x1 convolution with a matrix of zeros and ones. That one again loses to filters of
zeros where few channels are missing or the input is narrow.
"""

from __future__ import annotations

import math

import numpy as np

from headgate.compile.front.graph import Node

# XNNPACK's kernels compute so many output channels at once (x86 with AVX-512, and near it NEON's).
TILE = 16

# MACs per element of the sum that one more pass over it is worth: an estimate, not fitted.
PASS = 32


def fill(convolution: Node, place: Node) -> bool:
    """Makes filters of zeros where they beat a 1x1 convolution behind; else changes nothing.

    ``place`` puts the K channels that ``convolution`` computes among the C of a sum.
    """
    if convolution.kind != "conv2d" or convolution["groups"] != 1:
        return False
    weight, constant, channels = convolution["weight"], place["constant"], list(place["channels"])
    kept, *reads = weight.shape
    work = math.prod(reads)
    filled = _tiles(constant.size) * work
    placed = _tiles(kept) * work + _tiles(constant.size) * kept + constant.size * PASS
    if filled > placed:
        return False
    filters = np.zeros((constant.size, *reads), np.float32)
    bias = constant.copy()
    filters[channels], bias[channels] = weight, convolution["bias"]
    convolution.attributes |= {"weight": filters, "bias": bias}
    return True


def _tiles(channels: int) -> int:
    return math.ceil(channels / TILE) * TILE
