"""The words of ``tir.py`` for int8, and what every kernel of this folder says with them."""

from __future__ import annotations

from tvm import tirx

from headgate.compile.isa.base import DotIsa
from headgate.compile.isa.soft_float import is_soft
from headgate.compile.isa.vector import intrinsic, named
from headgate.compile.kernels import tir
from headgate.compile.kernels.convolution import Clamp
from headgate.compile.kernels.kernel import Parameter
from headgate.compile.kernels.tir import Buffer, Expr, load, splat, store
from headgate.device.tensor_type import FLOAT32, INT8, INT32, UINT8

BOUNDS = {INT8: (-128, 127), UINT8: (0, 255)}
"""The least and the greatest code of a dtype."""
FLIP = 0x80
"""What turns uint8 into int8 and back, 128 less or more, by exclusive or."""
CODES_PER_WORD = 4

Bounds = tuple[float, float]
"""The codes between which a result lies: its dtype's, or narrower by an activation."""


def flip_word(isa: DotIsa, dtype: str) -> int:
    """What is exclusive-or-ed to a word of activations before it meets weights."""
    return 0 if isa.operand(dtype) == dtype else _signed(FLIP * 0x01010101)


def correction(isa: DotIsa, dtype: str) -> int:
    """What the sum of an output's weights is multiplied with, to undo flips."""
    if isa.operand(dtype) == dtype:
        return 0
    return FLIP if dtype == UINT8 else -FLIP


def _signed(word: int) -> int:
    return word - (1 << 32) if word >= 1 << 31 else word


def codes(name: str, dtype: str) -> Parameter:
    """An argument that points to codes."""
    return name, dtype


def wide(value: Expr, lanes: int, dtype: str) -> Expr:
    """``value`` as numbers of another type."""
    return tirx.Cast(named(dtype, lanes), value)


def apart(value: Expr, lanes: int) -> Expr:
    """A product that is rounded before anything is added to it, as on every core.

    Without the fence LLVM makes one multiply-add of the two, which rounds once. It has none for
    cores without an FPU, where it makes none of either.
    """
    if is_soft():
        return value
    return intrinsic(named(FLOAT32, lanes), "arithmetic.fence", value)


def code(isa: DotIsa, value: Expr, bounds: Clamp, lanes: int) -> Expr:
    """The code (int32) nearest to a float32, half to even, within ``bounds``."""
    least, greatest = bounds
    assert least is not None
    assert greatest is not None
    return isa.code(value, int(least), int(greatest), lanes)


def load_codes(buffer: Buffer, at: Expr, lanes: int, dtype: str) -> Expr:
    """Codes as numbers of ``dtype``."""
    return wide(load(buffer, at, lanes), lanes, dtype)


def store_codes(buffer: Buffer, at: Expr, value: Expr, lanes: int) -> None:
    """Writes codes that are int32."""
    store(buffer, at, wide(value, lanes, buffer.dtype), lanes)


def cleared(size: int, lanes: int) -> Buffer:
    """A small array of int32 zeros."""
    found = tir.local(size, INT32)
    for at in range(0, size, lanes):
        store(found, at, splat(0, lanes, INT32), lanes)
    return found
