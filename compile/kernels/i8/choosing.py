"""The weights of active inputs, one after the other, by permutations of bytes.

Once for every inference and output, 16 to 64 weights an instruction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from headgate.compile.isa.base import DotIsa
from headgate.compile.isa.vector import picked, read_as
from headgate.compile.kernels import tir
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
        chosen: Buffer,
        into: Expr,
    ) -> Expr:
        """Chooses one output's weights; returns what undoes the flips of its activations.

        ``row`` is where they begin in ``weight``, whose taps lie ``pitch`` words apart, and
        ``into`` where they go in ``chosen``.
        """
        isa, words = self.isa, self.isa.choices // CODES_PER_WORD
        cell = isa.lanes * isa.partials
        total = cleared(cell, cell)
        factor = correction(isa, self.dtype)
        vectors = (count + (isa.choices - 1)) // isa.choices if self.vectors > 1 else 1
        with loop(self.taps) as t, loop(vectors) as d:
            found = tir.local(isa.choices, UINT8)
            store(found, 0, splat(0, isa.choices, UINT8), isa.choices)

            def look(table: Expr, t: Expr = t, d: Expr = d, found: Buffer = found) -> None:
                size = self.table // CODES_PER_WORD
                own = load(buffers["weight"], row + t * pitch + table * size, size)
                at = (d * self.tables + table) * isa.choices
                choice = load(buffers["choices"], at, isa.choices)
                part = isa.permute(own, choice, self.table)
                store(found, 0, load(found, 0, isa.choices) | part, isa.choices)

            if self.tables == 1:
                look(0)
            else:
                first = let(buffers["tables"][2 * d])
                with loop(buffers["tables"][2 * d + 1] - first + 1) as table:
                    look(first + table)
            value = let(read_as(INT32, words, load(found, 0, isa.choices)))
            store(chosen, into + t * self.pitch + d * words, value, words)
            if factor:
                ones = splat(0x01010101, isa.lanes, INT32)
                for part in range(words // isa.lanes):
                    own = picked(value, range(part * isa.lanes, (part + 1) * isa.lanes))
                    before = load(total, 0, cell)
                    summed = isa.dot(before, [(ones, own)], isa.lanes, isa.operand(self.dtype))
                    store(total, 0, summed, cell)
        if not factor:
            return int32(0)
        summed = isa.sums(load(total, 0, cell), isa.lanes)
        return let(tir.lane_sum(summed, isa.lanes) * factor)
