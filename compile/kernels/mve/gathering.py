"""Puts the weights of active inputs side by side, one output at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from headgate.compile.isa.mve import BYTES, hidden, sum_of, take
from headgate.compile.kernels import tir
from headgate.compile.kernels.i8.words import wide
from headgate.compile.kernels.mve.layout import Layout
from headgate.compile.kernels.tir import Buffer, Expr, int32, let, load, loop, store
from headgate.device.tensor_type import INT8, INT16, INT32

LANES = 8
"""Weights that are taken together."""


@dataclass(frozen=True)
class Gathering:
    """The weights of the outputs of a tile, ``chosen[run][vector][output][16]``.

    ``count`` inputs of a group are active; ``member`` says which of the group's channels is at a
    position, and ``places`` (uint16) is where each byte of a run comes from. Without a gate
    ``member`` and ``places`` are None.
    """

    layout: Layout
    weight: Buffer
    chosen: Buffer
    count: Expr
    places: Buffer = None
    member: Callable[[Expr], Expr] | None = None

    def prepare(self) -> None:
        """Writes ``places``, the same for every run of every output."""
        if self.member is None:
            return
        layout, size = self.layout, self.layout.shape.group_in
        taken = let(self.count * layout.run_taps)
        with loop(self.count) as j:
            channel = let(self.member(j))
            with loop(hidden(layout.run_taps)) as s:
                place = channel + s * size
                store(self.places, s * self.count + j, tir.tirx.Cast("uint16", place))
        with loop(let(layout.vectors(self.count) * BYTES - taken)) as i:
            store(self.places, taken + i, tir.tirx.IntImm("uint16", layout.source - 1))

    def gather(self, row: Expr, i: Expr, size: Expr) -> Expr:
        """The weights of output ``i`` of ``size``, which are in a row of ``weight``; their sum.

        The sum is that of gated inputs only; else it is zero.
        """
        layout = self.layout
        vectors = let(layout.vectors(self.count))
        pitch = let(size * BYTES)
        if self.member is None:
            start = let(row * (layout.runs * vectors * BYTES))
            with loop(hidden(layout.runs * vectors)) as k:
                own = load(self.weight, start + k * BYTES, BYTES)
                store(self.chosen, let(i * BYTES + k * pitch), own, BYTES)
            return 0
        total = tir.local(1, INT32)
        store(total, 0, int32(0))
        with loop(hidden(layout.runs)) as run:
            source = let((row * layout.runs + run) * layout.source)
            target = let(i * BYTES + run * (vectors * pitch))
            with loop(vectors) as k:
                for half in range(0, BYTES, LANES):
                    places = load(self.places, k * BYTES + half, LANES)
                    found = take(self.weight, source, places, LANES)
                    store(total, 0, total[0] + sum_of(found, INT16))
                    own = wide(found, LANES, INT8)
                    store(self.chosen, target + k * pitch + half, own, LANES)
        return let(total[0])
