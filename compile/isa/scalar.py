"""Cores without vectors: LLVM makes four numbers of a vector's four lanes.

No instruction beyond those of every Cortex-M is asked for, so that every operator runs on each;
kernels that are written for one instruction set stand in front of these in the registry.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from headgate.compile.isa.base import DotIsa, Expr, Pair
from headgate.compile.isa.vector import read_as, splat
from headgate.device.targets import Target
from headgate.device.tensor_type import FLOAT32, INT8, INT32, UINT8

LANES = 4
_SHIFTS = (0, 8, 16, 24)
_MAGIC = float(3 << 22)
"""A float32 near it has no room for a fraction: adding it rounds to nearest, ties to even."""


class Scalar(DotIsa):
    """A word is taken apart into its four bytes, which are multiplied one by one."""

    rows = 2
    registers = 8
    gathers = True
    choices = 4

    def dot(self, total: Expr, pairs: Sequence[Pair], lanes: int, dtype: str) -> Expr:
        for pixels, weights in pairs:
            for shift in _SHIFTS:
                one, other = _byte(pixels, shift, lanes, dtype), _byte(weights, shift, lanes, INT8)
                total = total + one * other
        return total

    def rounded(self, value: Expr, lanes: int) -> Expr:
        moved = read_as(INT32, lanes, value + splat(_MAGIC, lanes, FLOAT32))
        return moved - read_as(INT32, lanes, splat(_MAGIC, lanes, FLOAT32))


def _byte(words: Expr, shift: int, lanes: int, dtype: str) -> Expr:
    """The byte of each word that begins at bit ``shift``, as int32."""
    if dtype == UINT8:
        return tirx.bitwise_and(
            tirx.shift_right(words, splat(shift, lanes, INT32)), splat(255, lanes, INT32)
        )
    raised = tirx.shift_left(words, splat(24 - shift, lanes, INT32))
    return tirx.shift_right(raised, splat(24, lanes, INT32))


def find(target: Target) -> Scalar | None:
    """int8 as ``target`` computes it, None where an operating system says that it has vectors."""
    if target.os != "none":
        return None
    return Scalar("scalar", INT8, {LANES: 12.0 * LANES}, {LANES: 1.0 * LANES}, target.l2_bytes)
