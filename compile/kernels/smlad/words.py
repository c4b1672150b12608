"""What every kernel of this folder says with the words of ``tir.py``.

A *pair* is a word of two numbers of 16 bits, as SMLAD multiplies them.
"""

from __future__ import annotations

from tvm import tirx

from headgate.compile.isa.smlad import halves, nearest, saturated
from headgate.compile.isa.vector import read_as
from headgate.compile.kernels import tir
from headgate.compile.kernels.convolution import Clamp
from headgate.compile.kernels.i8.words import BOUNDS
from headgate.compile.kernels.tir import Buffer, Expr, int32, let, load
from headgate.device.tensor_type import FLOAT32, INT32

HIGH = -(1 << 16)
"""The bits of a pair's second number."""
LOW = (1 << 16) - 1
CODES_PER_WORD = 4


def quotient(count: Expr, size: Expr) -> Expr:
    """``count // size`` of numbers that are not negative.

    TIR's own division serves negative ones too, with conditions that the passes of TVM and of
    LLVM take minutes to see through.
    """
    if isinstance(count, int) and isinstance(size, int):
        return count // size
    if isinstance(size, int) and size & (size - 1) == 0:
        return let(tirx.shift_right(count, int32(size.bit_length() - 1)))
    return let(tirx.truncdiv(count, size if not isinstance(size, int) else int32(size)))


def rest(count: Expr, size: Expr) -> Expr:
    """``count % size`` of numbers that are not negative."""
    return count - quotient(count, size) * size


def word(buffer: Buffer, at: Expr) -> Expr:
    """Four codes, which need not be aligned."""
    return let(read_as(INT32, 1, load(buffer, at, CODES_PER_WORD)))


def number(buffer: Buffer, at: Expr) -> Expr:
    """One code as int32."""
    return tirx.Cast(INT32, load(buffer, at))


def pair(first: Expr, second: Expr) -> Expr:
    """Of two numbers; only the low 16 bits of each are read."""
    return (first & int32(LOW)) | (second << int32(16))


def pairs_of_planes(first: Expr, second: Expr, dtype: str) -> list[Expr]:
    """For each of four pixels the pair of its codes in two words of planes."""
    found: list[Expr] = [None] * CODES_PER_WORD
    for turned in (False, True):
        a, b = (let(halves(own, dtype, turned)) for own in (first, second))
        found[turned] = pair(a, b)
        found[2 + turned] = (b & int32(HIGH)) | ((a >> int32(16)) & int32(LOW))
    return found


def pairs_of_row(own: Expr, dtype: str) -> list[Expr]:
    """The two pairs of neighbours that four codes of a row are."""
    even, odd = (let(halves(own, dtype, turned)) for turned in (False, True))
    return [pair(even, odd), (odd & int32(HIGH)) | ((even >> int32(16)) & int32(LOW))]


def code(value: Expr, bounds: Clamp, dtype: str) -> Expr:
    """The code (int32) nearest to a float32, half to even, within ``bounds``."""
    return within(nearest(value), bounds, dtype)


def within(value: Expr, bounds: Clamp, dtype: str) -> Expr:
    """int32 to the nearest code of ``dtype`` within ``bounds``."""
    found = saturated(value, dtype)
    (low, high), (least, greatest) = bounds, BOUNDS[dtype]
    if low is not None and low > least:
        found = tir.maximum(found, int32(int(low)))
    if high is not None and high < greatest:
        found = tir.minimum(found, int32(int(high)))
    return found


def as_float(value: Expr) -> Expr:
    """An int32 as float32."""
    return tirx.Cast(FLOAT32, value)
