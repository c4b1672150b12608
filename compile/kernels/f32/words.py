"""The words of ``tir.py`` for float32, and what every kernel of this folder says with them."""

from __future__ import annotations

from functools import partial

from headgate.compile.kernels import tir
from headgate.compile.kernels.convolution import Clamp
from headgate.compile.kernels.kernel import Parameter
from headgate.compile.kernels.tir import Expr
from headgate.device.tensor_type import FLOAT32, TensorType

local = partial(tir.local, dtype=FLOAT32)
splat = partial(tir.splat, dtype=FLOAT32)
fill = partial(tir.fill, dtype=FLOAT32)


def floats(*names: str) -> list[Parameter]:
    """Arguments that point to numbers."""
    return [(name, FLOAT32) for name in names]


def tensor(*shape: int) -> TensorType:
    """A tensor of numbers."""
    return TensorType(shape, FLOAT32)


def clamped(value: Expr, clamp: Clamp, lanes: int) -> Expr:
    """``value`` within an activation's bounds."""
    low, high = clamp
    if low is not None:
        value = tir.maximum(value, splat(low, lanes))
    if high is not None:
        value = tir.minimum(value, splat(high, lanes))
    return value
