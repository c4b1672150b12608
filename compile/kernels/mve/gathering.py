"""Puts the weights of active inputs side by side, one output at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from headgate.compile.isa.mve import BYTES, sum_of, take
from headgate.compile.kernels import tir
from headgate.compile.kernels.i8.words import wide
from headgate.compile.kernels.mve.layout import Layout
from headgate.compile.kernels.tir import Buffer, Expr, int32, let, load, loop, store
from headgate.device.tensor_type import INT8, INT16, INT32

LANES = 8
"""Weights that are taken together."""


@dataclass(frozen=True)
class Gathering:
    """The weights of the active inputs ``count`` of a group.

    ``member`` says which of the group's channels is at a position; ``places`` (uint16) is where
    each byte of a run comes from.
    """

    layout: Layout
    weight: Buffer
    chosen: Buffer
    places: Buffer
    count: Expr
    member: Callable[[Expr], Expr]

    def prepare(self) -> None:
        """Writes ``places``, the same for every run of every output."""
        layout, size = self.layout, self.layout.shape.group_in
        taken = let(self.count * layout.run_taps)
        with loop(self.count) as j:
            channel = let(self.member(j))
            with loop(layout.run_taps) as s:
                place = channel + s * size
                store(self.places, s * self.count + j, tir.tirx.Cast("uint16", place))
        with loop(let(layout.vectors(self.count) * BYTES - taken)) as i:
            store(self.places, taken + i, tir.tirx.IntImm("uint16", layout.source - 1))

    def gather(self, row: Expr, into: Expr) -> Expr:
        """The weights of an output, from ``into`` of ``chosen`` on, and their sum."""
        layout = self.layout
        total = tir.local(1, INT32)
        store(total, 0, int32(0))
        vectors = let(layout.vectors(self.count))
        with loop(layout.runs) as run:
            source = let((row * layout.runs + run) * layout.source)
            target = let(into + run * (vectors * BYTES))
            with loop(let(vectors * (BYTES // LANES))) as i:
                places = load(self.places, i * LANES, LANES)
                found = take(self.weight, source, places, LANES)
                store(total, 0, total[0] + sum_of(found, INT16))
                store(self.chosen, target + i * LANES, wide(found, LANES, INT8), LANES)
        return let(total[0])
