"""Folding batch norms into the convolutions they follow.

With y = conv(x, W) + b and z = (y - mean) * weight / sqrt(variance + eps) + bias, the same z comes
from one convolution with W * s and (b - mean) * s + bias, s = weight / sqrt(variance + eps).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class BatchNorm:
    """Constants of one normalisation over C channels, each (C,) or None."""

    weight: NDArray[np.float32] | None
    bias: NDArray[np.float32] | None
    mean: NDArray[np.float32]
    variance: NDArray[np.float32]
    eps: float


def fold(
    weight: NDArray[np.float32], bias: NDArray[np.float32] | None, norm: BatchNorm
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight (O,I,kh,kw) and bias (O,) of the convolution that includes ``norm``."""
    scale = (norm.weight if norm.weight is not None else 1.0) / np.sqrt(
        norm.variance.astype(np.float64) + norm.eps
    )
    before = 0.0 if bias is None else bias
    after = 0.0 if norm.bias is None else norm.bias
    folded = weight * scale[:, None, None, None]
    return folded.astype(np.float32), ((before - norm.mean) * scale + after).astype(np.float32)
