"""Puts the weights of active channels together, in blocks as the inner loop reads them.

A block of two has the room of one of three, so that one piece of code fills either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from headgate.compile.kernels import tir
from headgate.compile.kernels.smlad.columns import MAX_UNROLLED_TAPS
from headgate.compile.kernels.smlad.layout import BLOCK, Layout
from headgate.compile.kernels.smlad.words import LOW, number, pair, quotient, rest, rolled
from headgate.compile.kernels.tir import Buffer, Expr, int32, let, store, when


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
        twos = let(tir.minimum(rest(2 * outputs, BLOCK), outputs))
        threes = let(quotient(tir.maximum(outputs - 2 * twos, 0), BLOCK))
        return cls(outputs, threes, twos)

    @property
    def rows(self) -> Expr:
        """Of all blocks."""
        return let(self.threes * BLOCK + self.twos * 2)

    def each(self, body: Callable[[Expr, Expr, int], None]) -> None:
        """``body(block, first, size)``: the number of each, its first row and its rows."""
        with rolled(self.threes) as b:
            body(b, let(b * BLOCK), BLOCK)
        with rolled(self.twos) as b:
            body(let(self.threes + b), let(self.threes * BLOCK + b * 2), 2)


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

        def one(i: Expr, into: Expr) -> None:
            self._row(let(row(tir.minimum(i, blocks.outputs - 1))), into)

        with rolled(blocks.threes + blocks.twos) as block:
            size = let(tir.tirx.Select(block < blocks.threes, int32(BLOCK), int32(2)))
            more = let(tir.maximum(block - blocks.threes, 0))
            with rolled(size) as i:
                one(let(block * BLOCK - more + i), let(block * (self.depth * BLOCK) + i))

    def _row(self, row: Expr, into: Expr) -> None:
        """The terms of one output."""
        if self.member is None:
            start = let(row * self.depth)
            with rolled(self.depth) as k:
                store(self.chosen, let(into + k * BLOCK), self.weight[start + k])
            return
        taps, units = self.layout.shape.taps, self.layout.units(self.count)
        start = let(row * (self.layout.shape.group_in * taps))
        with rolled(units) as j:
            # A last channel without partner has itself, whose weights are cleared below.
            last = tir.minimum(2 * j + 1, self.count - 1)
            a, b = (let(start + self.member(p) * taps) for p in (2 * j, last))
            self._terms(let(into + j * (taps * BLOCK)), a, b)
        end = let(units * taps)
        with when(rest(self.count, 2) == 1), rolled(taps) as k:
            at = let(into + (end - taps + k) * BLOCK)
            store(self.chosen, at, self.chosen[at] & int32(LOW))
        with rolled(self.depth - end) as k:
            store(self.chosen, let(into + (end + k) * BLOCK), int32(0))

    def _terms(self, into: Expr, a: Expr, b: Expr) -> None:
        taps = self.layout.shape.taps
        unrolled = taps <= MAX_UNROLLED_TAPS
        with rolled(1 if unrolled else taps) as one:
            for tap in range(taps) if unrolled else (one,):
                value = pair(number(self.weight, a + tap), number(self.weight, b + tap))
                store(self.chosen, into + tap * BLOCK, value)
