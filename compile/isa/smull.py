"""NEON for int8: two products of 16 bits are summed before they are widened."""

from __future__ import annotations

from collections.abc import Sequence

from headgate.compile.isa.base import DotIsa, Expr, Pair
from headgate.compile.isa.neon import LOAD_CYCLES
from headgate.compile.isa.sdot import narrowed, permute, rounded
from headgate.compile.isa.vector import intrinsic, joined, picked, read_as
from headgate.device.targets import Target
from headgate.device.tensor_type import INT8


class Smull(DotIsa):
    """2 x 128 x 127 fits 16 bits. Each lane has two sums, of two bytes of its words each."""

    rows = 4
    partials = 2
    depth = 2
    tables = (16, 32, 64)
    choices = 16

    @property
    def tile_vectors(self) -> tuple[int, ...]:
        # A weight takes an instruction of its own to be broadcast, and then serves both.
        return 1, 2

    def operand(self, dtype: str) -> str:
        return INT8

    def dot(self, total: Expr, pairs: Sequence[Pair], lanes: int, dtype: str) -> Expr:
        halves = []
        for half in range(2):
            part = picked(total, range(4 * half, 4 * half + 4))
            for first in range(0, len(pairs), self.depth):
                products = [_products(*pair, half) for pair in pairs[first : first + self.depth]]
                both = sum(products[1:], products[0])
                part = part + intrinsic("int32x4", "aarch64.neon.saddlp.v4i32.v8i16", both)
            halves.append(part)
        return joined(halves, 4)

    def sums(self, total: Expr, lanes: int) -> Expr:
        return picked(total, range(0, 8, 2)) + picked(total, range(1, 8, 2))

    def permute(self, table: Expr, choice: Expr, size: int) -> Expr:
        return permute(table, choice, size)

    def narrowed(self, codes: Sequence[Expr], lanes: int, dtype: str) -> Expr:
        return narrowed(codes, dtype) if len(codes) == 2 else super().narrowed(codes, lanes, dtype)

    def rounded(self, value: Expr, lanes: int) -> Expr:
        return rounded(value, lanes)


def _products(pixels: Expr, weights: Expr, half: int) -> Expr:
    """The eight products of one half of two registers."""
    own = range(8 * half, 8 * half + 8)
    sides = (picked(read_as(INT8, 16, vector), own) for vector in (pixels, weights))
    return intrinsic("int16x8", "aarch64.neon.smull.v8i16", *sides)


def find(target: Target) -> Smull | None:
    """The instructions as ``target`` runs them, None where it has none."""
    if target.arch != "aarch64":
        return None
    # Six instructions for eight words.
    cycles = {lanes: 3 * time for lanes, time in target.vector_fma_cycles.items()}
    loads = dict.fromkeys(cycles, LOAD_CYCLES)
    return Smull("smull", INT8, cycles, loads, cache_bytes=target.l2_bytes)
