"""Puts the weights of active channels together, in blocks as the inner loop reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from headgate.compile.kernels import tir
from headgate.compile.kernels.smlad.columns import MAX_UNROLLED_TAPS
from headgate.compile.kernels.smlad.layout import BLOCK, Layout
from headgate.compile.kernels.smlad.words import LOW, number, pair
from headgate.compile.kernels.tir import Buffer, Expr, int32, let, loop, store, when


@dataclass(frozen=True)
class Blocks:
    """Where the blocks of ``outputs`` outputs begin: threes, then ``twos`` twos.

    A single output is a block of two, of which it is both.
    """

    outputs: Expr
    threes: Expr
    twos: Expr

    @classmethod
    def of(cls, outputs: Expr) -> Blocks:
        """For a number that is known when running."""
        rest = tir.tirx.floormod(outputs, BLOCK)
        alone = tir.tirx.Select(outputs > 1, int32(2), int32(1))
        twos = let(tir.tirx.Select(rest == 1, alone, tir.tirx.floordiv(rest, 2)))
        threes = let(tir.tirx.floordiv(tir.maximum(outputs - 2 * twos, 0), BLOCK))
        return cls(outputs, threes, twos)

    def each(self, body: Callable[[Expr, int], None]) -> None:
        """``body(first, size)`` for each block: its first row, and how many it has."""
        with loop(self.threes) as b:
            body(let(b * BLOCK), BLOCK)
        with loop(self.twos) as b:
            body(let(self.threes * BLOCK + b * 2), 2)


@dataclass(frozen=True)
class Gathering:
    """The weights of the active inputs ``count`` of a group.

    ``member`` says which of the group's channels is at a position; None: all are active, and
    ``weight`` holds terms. Else it holds int8 (outputs, inputs, taps).
    """

    layout: Layout
    weight: Buffer
    chosen: Buffer
    count: Expr
    depth: Expr
    member: Callable[[Expr], Expr] | None

    def gather(self, blocks: Blocks, row: Callable[[Expr], Expr]) -> None:
        """All blocks; ``row(i)`` is the row of weights of the i-th output."""

        def block(first: Expr, size: int) -> None:
            for i in range(size):
                position = first + i
                if size < BLOCK:
                    position = tir.minimum(position, blocks.outputs - 1)
                self._row(let(row(position)), let(first * self.depth + i), size)

        blocks.each(block)

    def _row(self, row: Expr, into: Expr, size: int) -> None:
        """The terms of one output, ``size`` words apart."""
        if self.member is None:
            start = let(row * self.depth)
            with loop(self.depth) as k:
                store(self.chosen, let(into + k * size), self.weight[start + k])
            return
        taps, layout = self.layout.shape.taps, self.layout
        start = let(row * (layout.shape.group_in * taps))
        with loop(let(tir.tirx.floordiv(self.count, 2))) as j:
            a, b = (let(start + self.member(2 * j + half) * taps) for half in (0, 1))
            self._terms(let(into + j * (taps * size)), size, a, b)
        terms = let(layout.units(self.count) * taps)
        with when(tir.tirx.floormod(self.count, 2) == 1):
            a = let(start + self.member(self.count - 1) * taps)
            self._terms(let(into + (terms - taps) * size), size, a, None)
        with loop(self.depth - terms) as k:
            store(self.chosen, let(into + (terms + k) * size), int32(0))

    def _terms(self, into: Expr, size: int, a: Expr, b: Expr | None) -> None:
        taps = self.layout.shape.taps
        unrolled = taps <= MAX_UNROLLED_TAPS
        with loop(1 if unrolled else taps) as rolled:
            for tap in range(taps) if unrolled else (rolled,):
                first = number(self.weight, a + tap)
                second = None if b is None else number(self.weight, b + tap)
                value = first & int32(LOW) if second is None else pair(first, second)
                store(self.chosen, into + tap * size, value)
