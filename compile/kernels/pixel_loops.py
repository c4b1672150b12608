"""The loops of a convolution with a pixel gate, of any dtype.

The partial sum (the base path, over a share of the input channels) is computed for all pixels and
kept. It decides, for some output channels at a time, which vectors of pixels need the rest (the
conditional path); those are put on a list, and the rest is added to the partial sums of the listed
ones.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from headgate.compile.kernels import tir
from headgate.compile.kernels.conv_loops import Chunk, ConvLoops
from headgate.compile.kernels.convolution import ConvShape
from headgate.compile.kernels.split import share
from headgate.compile.kernels.tiling import Tiling
from headgate.compile.kernels.tir import Expr, int32, let, loop, store
from headgate.device.tensor_type import INT32


@dataclass(frozen=True)
class PixelGate:
    """What decides: see ``headgate::pixel_gated_conv2d`` for the meaning of each.

    ``block`` is (channels, pixels) with one decision; (1, 1) stands for every number by itself.
    """

    partitions: int
    grouped: bool
    shuffle: bool
    block: tuple[int, int]

    @property
    def single(self) -> bool:
        """Whether every number has a decision of its own."""
        return self.block == (1, 1)

    @property
    def rows(self) -> int:
        """Output channels of a register tile, which must not straddle two decisions."""
        return 8 if self.single or self.block[0] % 8 == 0 else 4

    def unit(self, tiling: Tiling) -> int:
        """Output channels that are decided on together."""
        return tiling.rows if self.single else self.block[0]


def most_vectors(shape: ConvShape, tiling: Tiling) -> int:
    """Vectors of pixels in the largest chunk."""
    return max(tiling.chunk_vectors(shape, rows) for rows in set(tiling.chunks(shape)))


@dataclass(frozen=True)
class Unit:
    """Output channels that are decided on together: ``count`` from ``first`` on.

    They make ``tiles`` register tiles of ``rows``; a surplus row repeats the last channel.
    """

    first: Expr
    count: Expr
    rows: int
    tiles: int


class PixelLoops(ConvLoops):
    """Writes one kernel, beside what a class for its dtype knows; ``gate`` is set by that."""

    gate: PixelGate

    @abstractmethod
    def partial_sums(
        self, chunk: Chunk, part: Expr, unit: Unit, u: Expr, count: int, vectors: int
    ) -> None:
        """The base path of ``count`` vectors from ``u`` on, kept for the decision."""

    @abstractmethod
    def needs_rest(self, unit: Unit, first: Expr, size: Expr, real: Expr, vectors: int) -> Expr:
        """Whether ``size`` vectors from ``first`` on need the rest.

        Their lanes from ``real`` on do not count.
        """

    @abstractmethod
    def finish_tile(
        self, chunk: Chunk, part: Expr, unit: Unit, us: list[Expr], rest: bool, vectors: int
    ) -> None:
        """Finishes and stores vectors ``us``, adding the conditional path first if ``rest``."""

    def run(self) -> None:
        self.executed = tir.local(1, INT32)
        store(self.executed, 0, int32(0))
        super().run()
        store(self.buffers["executed"], 0, self.executed[0])

    @property
    def in_channels(self) -> int:
        """Of the tensor that is read."""
        return self.shape.in_channels

    def source(self, first: Expr, j: Expr) -> Expr:
        """The input channel at a position; shuffling costs nothing, as channels are copied."""
        if not self.gate.shuffle:
            return first + j
        each = self.in_channels // self.gate.partitions
        parts = self.gate.partitions
        return tir.T.floormod(j, parts) * each + tir.T.floordiv(j, parts)

    def tiles(self, chunk: Chunk) -> None:
        rows = self.tiling.rows
        size, half = self.gate.unit(self.tiling), rows // 2
        whole, left = divmod(self.outputs, size)

        def full(part: Expr, index: Expr) -> None:
            first = let(part * self.outputs + index * size)
            self.unit(chunk, part, Unit(first, size, rows, size // rows))

        def rest(part: Expr, index: Expr) -> None:
            done = let(whole * size + index * half)
            count = let(tir.minimum(self.outputs - done, half))
            self.unit(chunk, part, Unit(let(part * self.outputs + done), count, half, 1))

        self.units(whole, full)
        self.units(-(-left // half), rest)

    def mine(self, outputs: tuple[Expr, Expr]) -> tuple[Expr, Expr]:
        """All of them: threads share the units."""
        return outputs

    @property
    def outputs(self) -> int:
        """Output channels whose base path has the same inputs."""
        return self.shape.out_channels // (self.gate.partitions if self.gate.grouped else 1)

    def units(self, each: int, body: Callable[[Expr, Expr], None]) -> None:
        """``body(partition, index)`` for ``each`` units of every partition, split over threads."""
        partitions = self.gate.partitions if self.gate.grouped else 1
        if not each:
            return
        first, end = share(partitions * each, 1, self.part)
        with loop(end - first) as i:
            at = let(first + i)
            if partitions == 1:
                body(0, at)
            else:
                body(let(tir.T.floordiv(at, each)), let(tir.T.floormod(at, each)))

    def unit(self, chunk: Chunk, part: Expr, unit: Unit) -> None:
        """One unit: partial sums, the decision, and both ways to finish."""
        vectors = self.tiling.chunk_vectors(self.shape, chunk.rows)
        self.vectors(
            chunk, lambda u, count: self.partial_sums(chunk, part, unit, u, count, vectors)
        )
        needed = let(self.list_needed(chunk, unit, vectors))
        order, width = self.buffers["vectors"], self.tiling.vectors
        wide = let(tir.T.floordiv(needed, width))

        def finish(at: Expr, count: int, rest: bool) -> None:
            us = [let(order[at + v]) for v in range(count)]
            self.finish_tile(chunk, part, unit, us, rest, vectors)

        with loop(wide) as group:
            finish(let(group * width), width, True)
        if width > 1:
            with loop(needed - wide * width) as i:
                finish(let(wide * width + i), 1, True)
        with loop(vectors - needed) as i:
            finish(let(needed + i), 1, False)

    def channels(self, unit: Unit, tile: Expr) -> list[Expr]:
        """The output channels of a register tile."""
        at, last = unit.first + tile * unit.rows, unit.first + unit.count - 1
        return [let(tir.minimum(at + i, last)) for i in range(unit.rows)]

    def list_needed(self, chunk: Chunk, unit: Unit, vectors: int) -> Expr:
        """Lists the chunk's vectors, those that need the conditional path first; their number."""
        lanes, order = self.tiling.lanes, self.buffers["vectors"]
        each = 1 if self.gate.single else self.gate.block[1] // lanes
        front, back = tir.local(1, INT32), tir.local(1, INT32)
        store(front, 0, int32(0))
        store(back, 0, int32(vectors - 1))
        with loop(-(-vectors // each)) as block:
            first = let(block * each)
            size = each if vectors % each == 0 else let(tir.minimum(vectors - first, each))
            start = let(chunk.first * self.shape.out_width + first * lanes)
            real = let(tir.minimum(self.shape.pixels - start, size * lanes))
            needed = self.needs_rest(unit, first, size, real, vectors)
            hit = let(tirx.Select(needed, int32(1), int32(0)))
            store(self.executed, 0, self.executed[0] + hit * unit.count * real)
            with loop(size) as v:
                # Both slots are free; the one that is not meant is written again later.
                store(order, front[0], first + v)
                store(order, back[0], first + v)
                store(front, 0, front[0] + hit)
                store(back, 0, back[0] + hit - 1)
        return front[0]
