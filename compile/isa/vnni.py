"""AVX-512 VNNI with VBMI2: a dot product of four bytes for each of 16 lanes, uint8 x int8."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from headgate.compile.isa.base import DotIsa, Expr, Pair
from headgate.compile.isa.vector import intrinsic, named, read_as
from headgate.device.targets import Target
from headgate.device.tensor_type import INT8, UINT8


class Vnni(DotIsa):
    """A word of weights is broadcast from memory by the instruction that multiplies."""

    compresses = True
    choices = 64

    def operand(self, dtype: str) -> str:
        return UINT8

    def dot(self, total: Expr, pairs: Sequence[Pair], lanes: int, dtype: str) -> Expr:
        for pixels, weights in pairs:
            total = intrinsic(
                named("int32", lanes),
                f"x86.avx512.vpdpbusd.{32 * lanes}",
                total,
                read_as(UINT8, 4 * lanes, pixels),
                read_as(INT8, 4 * lanes, weights),
            )
        return total

    def compress(self, table: Expr, mask: Expr) -> Expr:
        zeros = tirx.Broadcast(tirx.IntImm(UINT8, 0), 64)
        name = "x86.avx512.mask.compress.v64i8"
        return intrinsic("uint8x64", name, table, zeros, mask != zeros)

    def rounded(self, value: Expr, lanes: int) -> Expr:
        return rounded(value, lanes)


def rounded(value: Expr, lanes: int) -> Expr:
    """By x86's conversion, which rounds as it is set to: to nearest, ties to even."""
    kinds = "i32.f32" if lanes == 1 else f"v{lanes}i32.v{lanes}f32"
    return intrinsic(named("int32", lanes), f"lrint.{kinds}", value)


def find(target: Target) -> Vnni | None:
    """The instructions as ``target`` runs them, None where it has none."""
    if not (target.has("avx512vnni") and target.has("avx512vbmi2") and target.has("avx512vl")):
        return None
    cycles = target.vector_fma_cycles
    return Vnni("vnni", INT8, cycles, load_cycles=cycles, cache_bytes=target.l2_bytes)
