"""The weights of active inputs, one after the other: by permutations of bytes, compressed, or one
by one.

Once for every inference and output; with vectors, 16 to 64 weights an instruction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from headgate.compile.isa.base import DotIsa
from headgate.compile.isa.vector import picked, read_as
from headgate.compile.kernels import tir
from headgate.compile.kernels.i8.microkernel import MAX_UNROLLED_TAPS, Weights
from headgate.compile.kernels.i8.words import CODES_PER_WORD, cleared, correction, wide
from headgate.compile.kernels.tir import Buffer, Expr, int32, let, load, loop, splat, store
from headgate.device.tensor_type import INT32, UINT8, TensorType

NOTHING = 255
"""The choice of no byte: zero."""


@dataclass(frozen=True)
class Choosing:
    """How the weights of ``inputs`` channels are chosen on an instruction set."""

    isa: DotIsa
    inputs: int
    taps: int
    dtype: str
    """Of the activations before they are flipped."""

    @classmethod
    def of(cls, isa: DotIsa, inputs: int, taps: int, dtype: str) -> Choosing:
        kind = Compressing if isa.compresses else Gathering if isa.gathers else cls
        return kind(isa, inputs, taps, dtype)

    @property
    def table(self) -> int:
        """Weights that one instruction chooses among."""
        return next((size for size in self.isa.tables if size >= self.inputs), self.isa.tables[-1])

    @property
    def tables(self) -> int:
        return -(-self.inputs // self.table)

    @property
    def vectors(self) -> int:
        """Vectors of chosen weights of one tap."""
        return -(-self.inputs // self.isa.choices)

    @property
    def pitch(self) -> int:
        """Words from one tap's chosen weights to the next."""
        return self.vectors * self.isa.choices // CODES_PER_WORD

    def scratch(self) -> dict[str, TensorType]:
        """Where choices lie, and for each vector the tables that it needs."""
        return {
            "choices": TensorType((self.vectors, self.tables, self.isa.choices), UINT8),
            "tables": TensorType((self.vectors, 2), INT32),
        }

    def prepare(
        self, buffers: dict[str, Buffer], channel: Callable[[Expr, int], Expr], count: Expr
    ) -> None:
        """Says for the ``count`` active inputs which byte goes where.

        ``channel(j, lanes)`` are the channels of a group from position ``j`` on.
        """
        lanes, choices = self.isa.lanes, self.isa.choices
        nothing = splat(NOTHING, lanes, INT32)
        with loop(self.vectors) as d:
            for edge, at in enumerate((d * choices, (d + 1) * choices - 1)):
                place = tir.maximum(tir.minimum(at, count - 1), 0)
                table = tir.T.floordiv(channel(let(place), 1), self.table)
                store(buffers["tables"], 2 * d + edge, table)
            with loop(choices // lanes) as v:
                first = let(d * choices + v * lanes)
                # A list is read no further than its end.
                own = let(channel(let(tir.minimum(first, self.inputs - 1)), lanes))
                active = tir.T.ramp(first, 1, lanes) < tir.T.broadcast(count, lanes)
                for table in range(self.tables):
                    place = let(own - splat(table * self.table, lanes, INT32))
                    value = tirx.Select(active, place, nothing)
                    value = tirx.Select(place >= splat(0, lanes, INT32), value, nothing)
                    value = tirx.Select(place < splat(self.table, lanes, INT32), value, nothing)
                    into = let((d * self.tables + table) * choices + v * lanes)
                    store(buffers["choices"], into, wide(value, lanes, UINT8), lanes)

    def choose(
        self,
        buffers: dict[str, Buffer],
        row: Expr,
        pitch: int,
        count: Expr,
        chosen: Weights,
        into: Expr,
    ) -> Expr:
        """Chooses one output's weights; returns what undoes the flips of its activations.

        ``row`` is where they begin in ``weight``, whose taps lie ``pitch`` words apart, and
        ``into`` where they go in ``chosen``.
        """
        size, words = self.isa.choices, self.table // CODES_PER_WORD
        total, vector = self._no_sum(), size // CODES_PER_WORD
        unrolled = self.taps <= MAX_UNROLLED_TAPS
        vectors = (count + (size - 1)) // size if self.vectors > 1 else 1

        def look(d: Expr, table: Expr, first: bool) -> None:
            """Chooses from one table for all taps, beside what the ``first`` had."""
            choice = let(load(buffers["choices"], (d * self.tables + table) * size, size))
            source, target = let(row + table * words), let(into + chosen.move(0, d * vector))
            for t in range(self.taps) if unrolled else (0,):
                with loop(1 if unrolled else self.taps) as more:
                    own = load(buffers["weight"], source + (t + more) * pitch, words)
                    part = let(self.isa.permute(own, choice, self.table))
                    at = (target + chosen.move(t + more, 0)) * CODES_PER_WORD
                    before = None if first else load(chosen.buffer, at, size)
                    store(chosen.buffer, at, part if first else part | before, size)
                    self._add(total, part)

        with loop(vectors) as d:
            first = let(buffers["tables"][2 * d]) if self.tables > 1 else 0
            look(d, first, first=True)
            if self.tables > 1:
                with loop(buffers["tables"][2 * d + 1] - first) as more:
                    look(d, let(first + 1 + more), first=False)
        return self._correction(total)

    def _no_sum(self) -> Buffer:
        cell = self.isa.lanes * self.isa.partials
        return cleared(cell, cell)

    def _add(self, total: Buffer, value: Expr) -> None:
        """Adds chosen weights to ``total`` where activations are flipped."""
        if not correction(self.isa, self.dtype):
            return
        isa, words = self.isa, self.isa.choices // CODES_PER_WORD
        cell = isa.lanes * isa.partials
        ones, weights = splat(0x01010101, isa.lanes, INT32), read_as(INT32, words, value)
        for part in range(words // isa.lanes):
            own = picked(weights, range(part * isa.lanes, (part + 1) * isa.lanes))
            pairs = [(ones, own)]
            summed = isa.dot(load(total, 0, cell), pairs, isa.lanes, isa.operand(self.dtype))
            store(total, 0, summed, cell)

    def _correction(self, total: Buffer) -> Expr:
        factor = correction(self.isa, self.dtype)
        if not factor:
            return int32(0)
        summed = self.isa.sums(load(total, 0, self.isa.lanes * self.isa.partials), self.isa.lanes)
        return let(tir.lane_sum(summed, self.isa.lanes) * factor)


@dataclass(frozen=True)
class Compressing(Choosing):
    """By an instruction that puts the bytes under a mask side by side.

    A table's weights are written where those of the tables before end, as a whole vector whose
    surplus the next one overwrites.
    """

    @property
    def table(self) -> int:
        return self.isa.choices

    def scratch(self) -> dict[str, TensorType]:
        """A mask for each table, and how many active inputs lie before it."""
        return {
            "choices": TensorType((self.tables, self.table), UINT8),
            "tables": TensorType((self.tables + 1,), INT32),
        }

    def prepare(
        self, buffers: dict[str, Buffer], channel: Callable[[Expr, int], Expr], count: Expr
    ) -> None:
        masks, before = buffers["choices"], buffers["tables"]
        with loop(self.tables) as table:
            store(masks, table * self.table, splat(0, self.table, UINT8), self.table)
            store(before, table + 1, int32(0))
        store(before, 0, int32(0))
        with loop(count) as j:
            own = let(channel(j, 1))
            store(masks, own, tirx.IntImm(UINT8, 1))
            store(before, tir.T.floordiv(own, self.table) + 1, j + 1)
        with loop(self.tables) as table:
            store(before, table + 1, tir.maximum(before[table], before[table + 1]))

    def choose(
        self,
        buffers: dict[str, Buffer],
        row: Expr,
        pitch: int,
        count: Expr,
        chosen: Weights,
        into: Expr,
    ) -> Expr:
        size, total = self.table, self._no_sum()
        last = let(tir.T.floordiv(count - 1, size) * size)
        with loop(self.taps) as t:
            start = let((into + chosen.move(t, 0)) * CODES_PER_WORD)
            if self.tables > 1:
                store(chosen.buffer, start + last, splat(0, size, UINT8), size)
            with loop(self.tables) as table:
                words = size // CODES_PER_WORD
                own = load(buffers["weight"], row + t * pitch + table * words, words)
                mask = load(buffers["choices"], table * size, size)
                value = let(self.isa.compress(read_as(UINT8, size, own), mask))
                store(chosen.buffer, start + buffers["tables"][table], value, size)
                self._add(total, value)
        return self._correction(total)


@dataclass(frozen=True)
class Gathering(Choosing):
    """One by one: a word is loaded and shifted for each."""

    @property
    def pitch(self) -> int:
        return -(-self.inputs // CODES_PER_WORD)

    def scratch(self) -> dict[str, TensorType]:
        """The active inputs, counted within their group."""
        return {"choices": TensorType((self.inputs,), INT32)}

    def prepare(
        self, buffers: dict[str, Buffer], channel: Callable[[Expr, int], Expr], count: Expr
    ) -> None:
        with loop(count) as j:
            store(buffers["choices"], j, channel(j, 1))

    def choose(
        self,
        buffers: dict[str, Buffer],
        row: Expr,
        pitch: int,
        count: Expr,
        chosen: Weights,
        into: Expr,
    ) -> Expr:
        last = let(tir.T.floordiv(count - 1, CODES_PER_WORD) * CODES_PER_WORD)
        with loop(self.taps) as t:
            start = let((into + chosen.move(t, 0)) * CODES_PER_WORD)
            # Where the last word has room for more, the weights are zero.
            store(chosen.buffer, start + last, splat(0, CODES_PER_WORD, UINT8), CODES_PER_WORD)
            with loop(count) as j:
                own = let(buffers["choices"][j])
                word = buffers["weight"][row + t * pitch + tirx.shift_right(own, int32(2))]
                moved = tirx.bitwise_and(own, int32(3)) * 8
                store(chosen.buffer, start + j, wide(tirx.shift_right(word, moved), 1, UINT8))
        return int32(0)
