"""AVX2 for int8: products of 16 bits, whose sums cannot saturate as those of bytes would."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from headgate.compile.isa.base import DotIsa, Expr, Pair
from headgate.compile.isa.vector import intrinsic, read_as
from headgate.compile.isa.vnni import rounded
from headgate.device.targets import Target
from headgate.device.tensor_type import INT8, UINT8


class Madd(DotIsa):
    """The even and the odd bytes of a word are multiplied apart, as numbers of 16 bits."""

    registers = 16
    tables = (16,)
    choices = 16

    def dot(self, total: Expr, pairs: Sequence[Pair], lanes: int, dtype: str) -> Expr:
        for pixels, weights in pairs:
            for even in (True, False):
                a, b = _halves(pixels, lanes, dtype, even), _halves(weights, lanes, INT8, even)
                kind = "sse2.pmadd.wd" if lanes == 4 else "avx2.pmadd.wd"
                total = total + intrinsic(f"int32x{lanes}", f"x86.{kind}", a, b)
        return total

    def permute(self, table: Expr, choice: Expr, size: int) -> Expr:
        own = read_as(UINT8, 16, table)
        return intrinsic("uint8x16", "x86.ssse3.pshuf.b.128", own, choice)

    def rounded(self, value: Expr, lanes: int) -> Expr:
        return rounded(value, lanes)


def _halves(words: Expr, lanes: int, dtype: str, even: bool) -> Expr:
    """Every other byte of ``words`` as a number of 16 bits."""
    kind = f"{'u' if dtype == UINT8 else ''}int16"
    eight = tirx.Broadcast(tirx.IntImm(kind, 8), 2 * lanes)
    wide = read_as(kind, 2 * lanes, words)
    if even:
        wide = tirx.shift_left(wide, eight)
    return read_as("int16", 2 * lanes, tirx.shift_right(wide, eight))


def find(target: Target) -> Madd | None:
    """The instructions as ``target`` runs them, None where it has none."""
    if not target.has("avx2"):
        return None
    cycles = {8: 2.0}
    return Madd("madd", INT8, cycles, load_cycles={8: 0.5}, cache_bytes=target.l2_bytes)
