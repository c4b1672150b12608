"""What channels removed from a residual branch cost TFLite, and the cheaper way to do without them.

A pruned convolution in front of a residual sum computes K channels where the sum has C. XNNPACK has
no gather, and padding and gathering outside of its partition take 2 % to 70 % longer (LiteRT on
x86) than a 1x1 convolution with a matrix of zeros and ones. That one again loses to filters of
zeros where few channels are missing or the input is narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# XNNPACK's kernels compute so many output channels at once (x86 with AVX-512, and near it NEON's).
TILE = 16

# MACs per element of the sum that one more pass over it is worth: an estimate, not fitted.
PASS = 32


def filling_is_cheaper(shape: Sequence[int], channels: int) -> bool:
    """Whether filters of zeros beat a 1x1 convolution behind.

    Args:
        shape: of the pruned convolution's weight, (K, C_in / groups, kh, kw).
        channels: C, how many the sum has.
    """
    kept, *reads = shape
    work = math.prod(reads)
    filled = _tiles(channels) * work
    placed = _tiles(kept) * work + _tiles(channels) * kept + channels * PASS
    return filled <= placed


def fill(
    weight: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    constant: NDArray[np.float32],
    channels: Sequence[int],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight (C, ...) and bias (C,) that compute ``weight``'s rows at ``channels``, else constants.

    Args:
        weight: (K, C_in, kh, kw), with any batch norm folded in.
        bias: (K,), or None.
        constant: (C,), what removed channels add; unused at ``channels``.
        channels: K places among C.
    """
    filters = np.zeros((len(constant), *weight.shape[1:]), np.float32)
    shift = constant.astype(np.float32)
    filters[list(channels)] = weight
    shift[list(channels)] = 0 if bias is None else bias
    return filters, shift


def _tiles(channels: int) -> int:
    return math.ceil(channels / TILE) * TILE
