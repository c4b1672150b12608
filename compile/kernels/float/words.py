"""The words of ``tir.py`` for floats, and what every kernel of this folder says with them.

Tensors and weights are numbers of a kernel's dtype. What belongs to channels (biases, gates, means)
is float32, and so is what is computed with either, products of a convolution apart.
"""

from __future__ import annotations

from functools import partial

from tvm import tirx

from headgate.compile.isa.vector import named
from headgate.compile.kernels import tir
from headgate.compile.kernels.convolution import Clamp
from headgate.compile.kernels.kernel import Parameter
from headgate.compile.kernels.tir import Buffer, Expr
from headgate.device.tensor_type import FLOAT32, TensorType

Dtypes = tuple[str, ...]
"""Those of a kernel's operands, then the result's; one where all are the same."""
SAME: Dtypes = (FLOAT32,)
_OPERANDS = ("x", "a", "b", "weight", "residual", "scratch")

local = partial(tir.local, dtype=FLOAT32)
splat = partial(tir.splat, dtype=FLOAT32)
fill = partial(tir.fill, dtype=FLOAT32)


def floats(*names: str, dtypes: Dtypes = SAME) -> list[Parameter]:
    """Arguments that point to numbers."""
    known = {**dict.fromkeys(_OPERANDS, dtypes[0]), "y": dtypes[-1]}
    return [(name, known.get(name, FLOAT32)) for name in names]


def tensor(*shape: int, dtype: str = FLOAT32) -> TensorType:
    """A tensor of numbers."""
    return TensorType(shape, dtype)


def wide(value: Expr, lanes: int, dtype: str) -> Expr:
    """Numbers of ``dtype`` as float32."""
    return value if dtype == FLOAT32 else tirx.Cast(named(FLOAT32, lanes), value)


def narrow(value: Expr, lanes: int, dtype: str) -> Expr:
    """float32 as numbers of ``dtype``."""
    return value if dtype == FLOAT32 else tirx.Cast(named(dtype, lanes), value)


def read(buffer: Buffer, offset: Expr, lanes: int = 1, stride: int = 1) -> Expr:
    """Numbers of a buffer as float32."""
    return wide(tir.load(buffer, offset, lanes, stride), lanes, buffer.dtype)


def write(buffer: Buffer, offset: Expr, value: Expr, lanes: int = 1) -> None:
    """Writes float32 as numbers of a buffer."""
    tir.store(buffer, offset, narrow(value, lanes, buffer.dtype), lanes)


def clamped(value: Expr, clamp: Clamp, lanes: int, dtype: str = FLOAT32) -> Expr:
    """``value`` within an activation's bounds."""
    low, high = clamp
    if low is not None:
        value = tir.maximum(value, tir.splat(low, lanes, dtype))
    if high is not None:
        value = tir.minimum(value, tir.splat(high, lanes, dtype))
    return value
