"""NEON with the dot product: four bytes for each of 4 lanes, int8 x int8, weights by element."""

from __future__ import annotations

from collections.abc import Sequence

from headgate.compile.isa.base import DotIsa, Expr, Pair
from headgate.compile.isa.neon import LOAD_CYCLES
from headgate.compile.isa.vector import intrinsic, joined, named, picked, read_as
from headgate.device.targets import Target
from headgate.device.tensor_type import INT8, UINT8


class Sdot(DotIsa):
    """Four words of weights are loaded at once and used by element."""

    tables = (16, 32, 64)
    choices = 16

    def operand(self, dtype: str) -> str:
        return INT8

    def dot(self, total: Expr, pairs: Sequence[Pair], lanes: int, dtype: str) -> Expr:
        for pixels, weights in pairs:
            own = (read_as(INT8, 16, vector) for vector in (pixels, weights))
            total = intrinsic("int32x4", "aarch64.neon.sdot.v4i32.v16i8", total, *own)
        return total

    def permute(self, table: Expr, choice: Expr, size: int) -> Expr:
        return permute(table, choice, size)

    def narrowed(self, codes: Sequence[Expr], lanes: int, dtype: str) -> Expr:
        return narrowed(codes, dtype) if len(codes) == 2 else super().narrowed(codes, lanes, dtype)

    def rounded(self, value: Expr, lanes: int) -> Expr:
        return rounded(value, lanes)


def permute(table: Expr, choice: Expr, size: int) -> Expr:
    """By a table of one, two or four registers."""
    count = size // 16
    parts = [picked(table, range(4 * i, 4 * i + 4)) if count > 1 else table for i in range(count)]
    own = [read_as(UINT8, 16, part) for part in parts]
    return intrinsic("uint8x16", f"aarch64.neon.tbl{count}.v16i8", *own, choice)


def narrowed(codes: Sequence[Expr], dtype: str) -> Expr:
    """By saturating moves: others LLVM makes of a table, whose registers have to be in order."""
    first, second = ("sqxtun", "uqxtn") if dtype == UINT8 else ("sqxtn", "sqxtn")
    halves = [intrinsic("int16x4", f"aarch64.neon.{first}.v4i16", one) for one in codes]
    return intrinsic(f"{dtype}x8", f"aarch64.neon.{second}.v8i8", joined(halves, 4))


def rounded(value: Expr, lanes: int) -> Expr:
    """By the conversion that rounds to nearest, ties to even."""
    kinds = "i32.f32" if lanes == 1 else f"v{lanes}i32.v{lanes}f32"
    return intrinsic(named("int32", lanes), f"aarch64.neon.fcvtns.{kinds}", value)


def find(target: Target) -> Sdot | None:
    """The instructions as ``target`` runs them, None where it has none."""
    if target.arch != "aarch64" or not target.has("dotprod"):
        return None
    cycles = target.vector_fma_cycles
    loads = dict.fromkeys(cycles, LOAD_CYCLES)
    return Sdot("sdot", INT8, cycles, loads, cache_bytes=target.l2_bytes, weight_lanes=4)
