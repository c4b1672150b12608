"""Scales and codes of tensors and weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from headgate.device.tensor_type import INT8, UINT8, Quantization, TensorType

LEVELS = {INT8: 127, UINT8: 255}
"""The code of the largest magnitude."""
LOWEST = {INT8: -128, UINT8: 0}
"""The least code."""
_MOST_BIAS = 1 << 30
_MOST_SUM = (1 << 31) - 1

Clamp = tuple[float | None, float | None]


@dataclass(frozen=True)
class Codes:
    """How a tensor is written: the dtype of its codes and what one step stands for."""

    dtype: str
    scale: float

    def type(self, shape: tuple[int, ...]) -> TensorType:
        return TensorType(shape, self.dtype, Quantization((self.scale,)))

    def bounds(self, clamp: Clamp) -> tuple[float, float]:
        """The codes between which numbers within ``clamp`` lie."""
        low, high = float(LOWEST[self.dtype]), float(LEVELS[self.dtype])
        if clamp[0] is not None:
            low = min(max(low, float(np.rint(clamp[0] / self.scale))), high)
        if clamp[1] is not None:
            high = max(min(high, float(np.rint(clamp[1] / self.scale))), low)
        return low, high

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """The codes of constant numbers."""
        wide = np.rint(numbers.astype(np.float64) / self.scale)
        return np.clip(wide, LOWEST[self.dtype], LEVELS[self.dtype]).astype(self.dtype)


@dataclass(frozen=True)
class Rows:
    """Weights and biases by output: codes, and what one step of each output's sum stands for."""

    weight: np.ndarray
    """int8, within -127..127."""
    bias: np.ndarray
    """int32."""
    steps: np.ndarray
    """float64."""


def quantized_rows(weight: np.ndarray, bias: np.ndarray, scale: float) -> Rows:
    """Codes of weights (outputs, ...) that meet inputs of ``scale``.

    An output whose weights are small beside its bias gets a larger step, so that the sum fits
    32 bits.
    """
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    step = row_steps(torch.from_numpy(rows), torch.tensor(bias), scale).numpy()
    codes = np.clip(np.rint(rows / step[:, None]), -127, 127).astype(np.int8)
    own = np.rint(bias.astype(np.float64) / (scale * step)).astype(np.int32)
    return Rows(codes.reshape(weight.shape), own, scale * step)


def row_steps(rows: Tensor, bias: Tensor, scale: Tensor | float) -> Tensor:
    """What one step of each output's weights stands for, (outputs,) float64.

    Args:
        rows: float64 (outputs, weights of one).
        bias: (outputs,).
        scale: of the inputs that the weights meet.
    """
    largest, total = rows.abs().amax(1), rows.abs().sum(1)
    step = torch.maximum(largest / 127, bias.double().abs() / (scale * _MOST_BIAS))
    # Of so many inputs that their sum might not fit.
    step = torch.maximum(step, total * 255 / (_MOST_SUM - _MOST_BIAS))
    return torch.where(step == 0, 1.0, step)
