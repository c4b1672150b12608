"""The DSP instructions of Cortex-M: two products of 16 bits are added in one cycle."""

from __future__ import annotations

from collections.abc import Sequence

from headgate.compile.isa.base import DotIsa, Expr, Pair
from headgate.compile.isa.vector import intrinsic, read_as
from headgate.device.targets import Target
from headgate.device.tensor_type import INT8, INT32, UINT8

REGISTERS = 13
"""That hold anything."""


class Smlad(DotIsa):
    """No vectors: a lane is a register of 32 bits. Floats are in registers of their own."""

    rows = 3
    registers = REGISTERS

    def dot(self, total: Expr, pairs: Sequence[Pair], lanes: int, dtype: str) -> Expr:
        for pixels, weights in pairs:
            for turned in (False, True):
                total = multiply_add(
                    halves(pixels, dtype, turned), halves(weights, INT8, turned), total
                )
        return total

    def rounded(self, value: Expr, lanes: int) -> Expr:
        return nearest(value)


def multiply_add(left: Expr, right: Expr, total: Expr) -> Expr:
    """``total`` and the products of the low and of the high 16 bits of two words."""
    return intrinsic(INT32, "arm.smlad", left, right, total)


def halves(word: Expr, dtype: str, turned: bool) -> Expr:
    """Bytes 0 and 2 of a word, 1 and 3 where it is ``turned``, as numbers of 16 bits."""
    if turned:
        word = intrinsic(INT32, "fshr.i32", word, word, 8)
    return intrinsic(INT32, "arm.uxtb16" if dtype == UINT8 else "arm.sxtb16", word)


def nearest(value: Expr) -> Expr:
    """float32 to the nearest int32, ties to even; what does not fit becomes the nearest that does.

    The conversion rounds as FPSCR says, which is so from reset on.
    """
    return read_as(INT32, 1, intrinsic("float32", "arm.vcvtr.f32", value))


def saturated(value: Expr, dtype: str) -> Expr:
    """int32 to the nearest code of ``dtype``."""
    return intrinsic(INT32, "arm.usat" if dtype == UINT8 else "arm.ssat", value, 8)


def find(target: Target) -> Smlad | None:
    """The instructions as ``target`` runs them, None where it has none."""
    if not target.has("dsp"):
        return None
    return Smlad("smlad", INT8, {1: 1.0}, {1: 1.0}, cache_bytes=target.l2_bytes, narrowest=1)
