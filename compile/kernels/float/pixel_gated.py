"""A convolution whose pixels get their full sum only where a part of it says that they need it.

The partial sum (the base path, over a share of the input channels) is computed for all pixels and
kept. It decides, for some output channels at a time, which vectors of pixels need the rest (the
conditional path); those are put on a list, and the rest is added to the partial sums of the listed
ones. A vector that nobody needs costs one multiply-add more, for its batch norm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tvm import tirx

from headgate.compile.isa import Isa
from headgate.compile.kernels import tir
from headgate.compile.kernels.conv_loops import Chunk, Pixels
from headgate.compile.kernels.convolution import ConvRequest
from headgate.compile.kernels.float.conv2d import ConvEmitter, ConvKernel
from headgate.compile.kernels.float.microkernel import Weights, accumulate
from headgate.compile.kernels.float.words import SAME, Dtypes, floats, local, splat, tensor
from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.split import share
from headgate.compile.kernels.tiling import choose_tiling
from headgate.compile.kernels.tir import Buffer, Expr, int32, let, load, loop, store
from headgate.device.tensor_type import INT32, TensorType


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


@dataclass(frozen=True)
class PixelGatedConv(Kernel):
    """A dense convolution and the gate on its pixels."""

    convolution: ConvKernel
    gate: PixelGate

    @classmethod
    def of(
        cls, isa: Isa, *, request: ConvRequest, gate: PixelGate, dtypes: Dtypes = SAME
    ) -> PixelGatedConv:
        run = gate.block[1]
        tiling = choose_tiling(request.shape, isa, rows=gate.rows, run_pixels=run)
        dense = ConvKernel(
            *(request.shape, tiling, request.epilogue, False),
            weight_lanes=isa.weight_lanes,
            dtypes=dtypes,
        )
        return cls(dense, gate)

    @property
    def unit(self) -> int:
        """Output channels that are decided on together."""
        return self.gate.rows if self.gate.single else self.gate.block[0]

    @property
    def most_vectors(self) -> int:
        """Vectors of pixels in the largest chunk."""
        shape, tiling = self.convolution.shape, self.convolution.tiling
        return max(tiling.chunk_vectors(shape, rows) for rows in set(tiling.chunks(shape)))

    @property
    def tile(self) -> tuple[int, int]:
        """Output channels x pixels that are computed or left out together."""
        return self.gate.rows, self.convolution.tiling.lanes

    def scratch(self) -> dict[str, TensorType]:
        return {
            "partial": tensor(self.unit, self.most_vectors, self.convolution.tiling.lanes),
            "vectors": TensorType((self.most_vectors,), INT32),
            **self.convolution.scratch(),
        }

    def parameters(self) -> list[Parameter]:
        """``bias`` is the full path's."""
        affine = ("gate_scale", "gate_bias", "base_scale", "base_bias", "full_scale")
        counts = [("vectors", INT32), ("executed", INT32)]
        return [*self.convolution.parameters(), *floats(*affine, "partial"), *counts]

    def _body(self, **buffers: Buffer) -> None:
        _Emitter(self, buffers).run()


@dataclass(frozen=True)
class _Path:
    """One of the two paths: how many inputs it has, their weights and pixels."""

    inputs: int
    weights: Weights
    pixels: Pixels


@dataclass(frozen=True)
class _Unit:
    """Output channels that are decided on together: ``count`` from ``first`` on.

    They make ``tiles`` register tiles of ``rows``; a surplus row repeats the last channel.
    """

    first: Expr
    count: Expr
    rows: int
    tiles: int


class _Emitter(ConvEmitter):
    def __init__(self, kernel: PixelGatedConv, buffers: dict[str, Buffer]) -> None:
        super().__init__(kernel.convolution, buffers)
        self.kernel_gate, self.gate, self.lanes = kernel, kernel.gate, self.tiling.lanes

    def run(self) -> None:
        self.executed = tir.local(1, INT32)
        store(self.executed, 0, int32(0))
        super().run()
        store(self.buffers["executed"], 0, self.executed[0])

    def source(self, first: Expr, j: Expr) -> Expr:
        """The input channel at a position; shuffling costs nothing, as channels are copied."""
        if not self.gate.shuffle:
            return first + j
        each = self.shape.in_channels // self.gate.partitions
        parts = self.gate.partitions
        return tir.T.floormod(j, parts) * each + tir.T.floordiv(j, parts)

    def tiles(self, chunk: Chunk) -> None:
        size, rows, half = self.kernel_gate.unit, self.gate.rows, self.gate.rows // 2
        whole, left = divmod(self.outputs, size)

        def full(part: Expr, index: Expr) -> None:
            first = let(part * self.outputs + index * size)
            self.unit(chunk, part, _Unit(first, size, rows, size // rows))

        def rest(part: Expr, index: Expr) -> None:
            done = let(whole * size + index * half)
            count = let(tir.minimum(self.outputs - done, half))
            self.unit(chunk, part, _Unit(let(part * self.outputs + done), count, half, 1))

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

    def path(self, chunk: Chunk, part: Expr, *, base: bool) -> _Path:
        """The inputs of one path for the outputs of ``part``."""
        each = self.shape.in_channels // self.gate.partitions
        start = part * each

        def nth(j: Expr) -> Expr:
            if base:
                return start + j
            if isinstance(start, int):
                return j + each
            return j + tirx.Select(j >= start, int32(each), int32(0))

        weights, pixels = chunk.inputs.weights, chunk.pixels
        return _Path(
            each if base else self.shape.in_channels - each,
            replace(
                weights,
                column=lambda j: weights.column(nth(j)),
                # Four neighbours at a time must not straddle the base path.
                contiguous=weights.contiguous and each % 4 == 0,
                inputs=each if base else self.shape.in_channels - each,
            ),
            replace(pixels, plane=lambda j: pixels.plane(nth(j))),
        )

    def unit(self, chunk: Chunk, part: Expr, unit: _Unit) -> None:
        """One unit: partial sums, the decision, and both ways to finish."""
        base, rest = self.path(chunk, part, base=True), self.path(chunk, part, base=False)
        vectors = self.tiling.chunk_vectors(self.shape, chunk.rows)
        self.vectors(chunk, lambda u, count: self.partial_sums(unit, u, count, base, vectors))
        needed = let(self.list_needed(chunk, unit, vectors))
        order, width = self.buffers["vectors"], self.tiling.vectors
        wide = let(tir.T.floordiv(needed, width))

        def finish(at: Expr, count: int, path: _Path | None) -> None:
            self.finish_tile(chunk, unit, [let(order[at + v]) for v in range(count)], path, vectors)

        with loop(wide) as group:
            finish(let(group * width), width, rest)
        if width > 1:
            with loop(needed - wide * width) as i:
                finish(let(wide * width + i), 1, rest)
        with loop(vectors - needed) as i:
            finish(let(needed + i), 1, None)

    def channels(self, unit: _Unit, tile: Expr) -> list[Expr]:
        """The output channels of a register tile."""
        at, last = unit.first + tile * unit.rows, unit.first + unit.count - 1
        return [let(tir.minimum(at + i, last)) for i in range(unit.rows)]

    def partial_sums(self, unit: _Unit, u: Expr, count: int, base: _Path, vectors: int) -> None:
        """The base path of ``count`` vectors from ``u`` on, kept for the decision."""
        lanes, partial = self.lanes, self.buffers["partial"]
        with loop(unit.tiles) as tile:
            channels = self.channels(unit, tile)
            acc = local(unit.rows * count * lanes)
            for cell in range(unit.rows * count):
                store(acc, cell * lanes, splat(0, lanes), lanes)
            self.accumulate(acc, channels, [u + v for v in range(count)], base)
            for i in range(unit.rows):
                for v in range(count):
                    into = ((tile * unit.rows + i) * vectors + u + v) * lanes
                    store(partial, into, load(acc, (i * count + v) * lanes, lanes), lanes)

    def accumulate(self, acc: Buffer, channels: list[Expr], us: list[Expr], path: _Path) -> None:
        """Adds one path to a register tile."""
        bases = [let(path.pixels.vector(u)) for u in us]
        rows = [let(c * (self.shape.group_in * self.shape.taps)) for c in channels]
        accumulate(acc, rows, bases, self.lanes, path.inputs, path.weights, path.pixels)

    def list_needed(self, chunk: Chunk, unit: _Unit, vectors: int) -> Expr:
        """Lists the chunk's vectors, those that need the conditional path first; their number."""
        lanes, order = self.lanes, self.buffers["vectors"]
        each = 1 if self.gate.single else self.gate.block[1] // lanes
        front, back = tir.local(1, INT32), tir.local(1, INT32)
        store(front, 0, int32(0))
        store(back, 0, int32(vectors - 1))
        with loop(-(-vectors // each)) as block:
            first = let(block * each)
            size = each if vectors % each == 0 else let(tir.minimum(vectors - first, each))
            start = let(chunk.first * self.shape.out_width + first * lanes)
            real = let(tir.minimum(self.shape.pixels - start, size * lanes))
            score = self.score(unit, first, size, real, vectors)
            hit = let(tirx.Select(score > splat(0, 1), int32(1), int32(0)))
            store(self.executed, 0, self.executed[0] + hit * unit.count * real)
            with loop(size) as v:
                # Both slots are free; the one that is not meant is written again later.
                store(order, front[0], first + v)
                store(order, back[0], first + v)
                store(front, 0, front[0] + hit)
                store(back, 0, back[0] + hit - 1)
        return front[0]

    def score(self, unit: _Unit, first: Expr, size: Expr, real: Expr, vectors: int) -> Expr:
        """Positive where ``size`` vectors from ``first`` on need the rest.

        The sum over a block, which has the sign of its mean; without blocks the sum of what is
        positive, which is more than zero if anything is. Lanes from ``real`` on do not count.
        """
        lanes = self.lanes
        acc = local(lanes)
        store(acc, 0, splat(0, lanes), lanes)
        with loop(unit.count) as row, loop(size) as v:
            at = (row * vectors + first + v) * lanes
            value = self.affine("gate", unit.first + row, load(self.buffers["partial"], at, lanes))
            if self.gate.single:
                value = tir.maximum(value, splat(0, lanes))
            lane = tir.T.ramp(v * lanes, 1, lanes)
            counted = tirx.Select(lane < tir.T.broadcast(real, lanes), value, splat(0, lanes))
            store(acc, 0, load(acc, 0, lanes) + counted, lanes)
        return tir.lane_sum(load(acc, 0, lanes), lanes)

    def affine(self, name: str, channel: Expr, value: Expr) -> Expr:
        """A folded batch norm: ``name_scale[channel] * value + name_bias[channel]``."""
        scale = self.buffers[f"{name}_scale"]
        bias = self.buffers["bias" if name == "full" else f"{name}_bias"]
        return value * splat(scale[channel], self.lanes) + splat(bias[channel], self.lanes)

    def finish_tile(
        self, chunk: Chunk, unit: _Unit, us: list[Expr], rest: _Path | None, vectors: int
    ) -> None:
        """Finishes and stores vectors ``us``, adding the conditional path first if there is one."""
        lanes, partial = self.lanes, self.buffers["partial"]
        with loop(unit.tiles) as tile:
            channels = self.channels(unit, tile)
            acc = local(unit.rows * len(us) * lanes)

            def kept(i: int, v: int, tile: Expr = tile) -> Expr:
                at = ((tile * unit.rows + i) * vectors + us[v]) * lanes
                return load(partial, at, lanes)

            cells = [(i, v) for i in range(unit.rows) for v in range(len(us))]
            for i, v in cells:
                store(acc, (i * len(us) + v) * lanes, kept(i, v), lanes)
            if rest is not None:
                self.accumulate(acc, channels, us, rest)
            for i, v in cells:
                cell = (i * len(us) + v) * lanes
                value = load(acc, cell, lanes)
                if rest is None:
                    value = self.affine("base", channels[i], value)
                else:
                    value = self.affine("full", channels[i], value)
                    if self.gate.single:
                        before = let(kept(i, v))
                        on = self.affine("gate", channels[i], before) > splat(0, lanes)
                        off = self.affine("base", channels[i], before)
                        value = tirx.Select(on, value, off)
                store(acc, cell, value, lanes)
            places = [self.place(u, chunk.first) for u in us]
            self.finish.end(acc, channels, self.shape.pixels, places, lanes)
