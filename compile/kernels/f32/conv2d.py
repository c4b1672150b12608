"""A convolution that visits only the active channels of its input and of its output.

One schedule for every kernel size, stride, padding, dilation and number of groups, dense or gated
on either side; depthwise convolutions have their own (``window.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd

from headgate.compile.isa import Isa
from headgate.compile.kernels import tir
from headgate.compile.kernels.convolution import ConvRequest, ConvShape, Epilogue
from headgate.compile.kernels.f32.microkernel import Finish, Pixels, Place, Weights, accumulate
from headgate.compile.kernels.f32.packing import clear_border, gather_columns, pad_rows
from headgate.compile.kernels.f32.words import clamped, floats, local, splat, tensor
from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.lists import list_parameters
from headgate.compile.kernels.split import PART, share
from headgate.compile.kernels.tiling import Tiling, choose_tiling
from headgate.compile.kernels.tir import Buffer, Expr, int32, let, load, loop, store, when
from headgate.device.tensor_type import INT32, TensorType


@dataclass(frozen=True)
class ConvKernel(Kernel):
    """Everything that makes one convolution's code; equal kernels share it."""

    shape: ConvShape
    tiling: Tiling
    epilogue: Epilogue
    gated_in: bool
    clamp_inactive: bool = False
    """Whether inactive output channels are to become the activation of the residual."""
    weight_lanes: int = 1
    placed: int = 0
    """Channels of the tensor among which the outputs are placed; 0: there are no others."""

    @classmethod
    def of(cls, isa: Isa, *, request: ConvRequest) -> ConvKernel:
        shape, epilogue = request.shape, request.epilogue
        tiling = choose_tiling(shape, isa, gated_in=request.gated_in, gated_out=epilogue.gate)
        sides = (request.gated_in, request.clamp_inactive)
        return cls(shape, tiling, epilogue, *sides, isa.weight_lanes, request.placed)

    def parameters(self) -> list[Parameter]:
        names = ["x", "weight", "bias", "y"]
        if self.epilogue.gate:
            names += ["gate", "shift"]
        if self.epilogue.residual == "separate":
            names.append("residual")
        if self.epilogue.means:
            names.append("sums")
        if self.tiling.mode != "direct":
            names.append("scratch")
        found = floats(*names)
        if self.epilogue.gate:
            found += list_parameters("out")
        if self.placed:
            found += [*floats("constant"), list_parameters("out")[0]]
        if self.gated_in:
            found += list_parameters("in")
        return [*found, PART]

    def scratch(self) -> dict[str, TensorType]:
        size = self.tiling.scratch_size(self.shape)
        return {"scratch": tensor(size)} if size else {}

    @property
    def sums(self) -> TensorType | None:
        """What a following gate finds its channel means in: partial sums (channels, lanes)."""
        if not self.epilogue.means:
            return None
        return tensor(self.shape.out_channels, self.tiling.lanes)

    def _body(self, **buffers: Buffer) -> None:
        ConvEmitter(self, buffers).run()


Rows = list[tuple[Expr, Expr]]
"""Of a register tile: (row of weights, output channel)."""


@dataclass(frozen=True)
class Chunk:
    """Some output rows of one group, ready to be multiplied."""

    first: Expr
    """Its first output row."""
    rows: int
    inputs: Expr
    """How many inputs are active."""
    outputs: tuple[Expr, Expr]
    """Where its active outputs begin in the list, and how many there are."""
    weights: Weights
    pixels: Pixels


class ConvEmitter:
    """Writes one kernel; ``buffers`` are its arguments by name."""

    def __init__(self, kernel: ConvKernel, buffers: dict[str, Buffer]) -> None:
        self.kernel, self.shape, self.tiling = kernel, kernel.shape, kernel.tiling
        self.buffers, self.part = buffers, buffers["part"]
        self.finish = Finish.of(kernel.epilogue, buffers)

    def run(self) -> None:
        shape, kernel, lanes = self.shape, self.kernel, self.tiling.lanes
        outputs = let(self.buffers["out_count"][0]) if kernel.epilogue.gate else shape.out_channels
        inputs = let(self.buffers["in_count"][0]) if kernel.gated_in else shape.in_channels
        first, end = share(shape.groups, 1, self.part) if shape.groups > 1 else (0, 1)
        with loop(end - first) as index:
            group = first + index
            mine = self.mine(self.segment("out_list", outputs, group, shape.group_out))
            if kernel.epilogue.means:
                with loop(mine[1]) as i:
                    into = let(self.output(mine[0] + i) * lanes)
                    store(self.buffers["sums"], into, splat(0, lanes), lanes)
            self.group(group, self.segment("in_list", inputs, group, shape.group_in), mine)
        if kernel.clamp_inactive:
            self.finish_inactive(outputs, (kernel.placed or shape.out_channels) - outputs)

    def mine(self, outputs: tuple[Expr, Expr]) -> tuple[Expr, Expr]:
        """This part's share of the outputs of a group: (first position, length)."""
        if self.shape.groups > 1:
            return outputs
        first, end = share(outputs[1], self.tiling.rows, self.part)
        return first, let(end - first)

    def segment(self, name: str, count: Expr, group: Expr, size: int) -> tuple[Expr, Expr]:
        """The part of a list that lies in a group: (first position, length)."""
        if self.shape.groups == 1:
            return 0, count
        if name not in self.buffers:
            return group * size, size
        found = tir.local(2, INT32)
        for i in range(2):
            store(found, i, int32(0))
        with loop(count) as p:
            channel = let(self.buffers[name][p])
            for i in range(2):
                with when(channel < (group + i) * size):
                    store(found, i, found[i] + 1)
        first = let(found[0])
        return first, let(found[1] - first)

    def output(self, position: Expr) -> Expr:
        """The output channel at a position of the list."""
        return self.buffers["out_list"][position] if "out_list" in self.buffers else position

    def source(self, first: Expr, j: Expr) -> Expr:
        """The input channel at position ``j`` of those that begin at ``first``."""
        return self.buffers["in_list"][first + j] if self.kernel.gated_in else first + j

    def group(self, group: Expr, inputs: tuple[Expr, Expr], outputs: tuple[Expr, Expr]) -> None:
        """One group's outputs; ``inputs`` and ``outputs`` are (first position, length)."""
        shape, tiling = self.shape, self.tiling
        gated_in = self.kernel.gated_in

        def channel(j: Expr) -> Expr:
            return self.source(inputs[0], j)

        def column(j: Expr) -> Expr:
            return (channel(j) - group * shape.group_in if gated_in else j) * shape.taps

        weights = Weights(
            self.buffers["weight"], column, shape.kernel, not gated_in, self.kernel.weight_lanes
        )
        if tiling.mode == "direct":
            pixels = Pixels(
                self.buffers["x"],
                lambda u: u * tiling.lanes,
                lambda j: channel(j) * shape.pixels,
                lambda r, s: 0,
            )
            self.tiles(Chunk(0, shape.out_height, inputs[1], outputs, weights, pixels))
            return
        clear_border(shape, tiling, self.buffers["scratch"], inputs[1])
        rows = tiling.chunks(shape)
        equal = rows.count(rows[0])
        with loop(equal) as index:
            first = let(index * rows[0])
            pixels = self.prepare(first, rows[0], inputs[1], channel)
            self.tiles(Chunk(first, rows[0], inputs[1], outputs, weights, pixels))
        if equal < len(rows):
            first = equal * rows[0]
            pixels = self.prepare(first, rows[-1], inputs[1], channel)
            self.tiles(Chunk(first, rows[-1], inputs[1], outputs, weights, pixels))

    def prepare(
        self, first: Expr, rows: int, inputs: Expr, channel: Callable[[Expr], Expr]
    ) -> Pixels:
        """Copies what ``rows`` output rows from ``first`` on need, and says where it lies."""
        shape, tiling, scratch = self.shape, self.tiling, self.buffers["scratch"]
        pad_rows(shape, tiling, self.buffers["x"], scratch, inputs, channel, first)
        pitch, lanes = tiling.padded_pitch(shape), tiling.lanes
        if tiling.mode == "padded":
            across = -(-shape.out_width // lanes)
            return Pixels(
                scratch,
                lambda u: tir.T.floordiv(u, across) * pitch + tir.T.floormod(u, across) * lanes,
                lambda j: j * (tiling.padded_rows(shape) * pitch),
                lambda r, s: r * (shape.dilation[0] * pitch) + s * shape.dilation[1],
            )
        start = tiling.padded_size(shape)
        gather_columns(shape, tiling, scratch, start, inputs, rows)
        return Pixels(
            scratch,
            lambda u: start + u * (shape.group_in * shape.taps * lanes),
            lambda j: j * (shape.taps * lanes),
            lambda r, s: (r * shape.kernel[1] + s) * lanes,
        )

    def tiles(self, chunk: Chunk) -> None:
        """All register tiles of a chunk."""
        if self.tiling.weights_outer:
            self.blocks(
                chunk,
                lambda rows: self.vectors(chunk, lambda u, count: self.tile(chunk, rows, u, count)),
            )
        else:
            self.vectors(
                chunk,
                lambda u, count: self.blocks(chunk, lambda rows: self.tile(chunk, rows, u, count)),
            )

    def vectors(self, chunk: Chunk, body: Callable[[Expr, int], None]) -> None:
        """``body(first, count)`` for every few vectors of pixels."""
        whole, rest = divmod(self.tiling.chunk_vectors(self.shape, chunk.rows), self.tiling.vectors)
        if whole:
            with loop(whole) as group:
                body(group * self.tiling.vectors, self.tiling.vectors)
        if rest:
            body(whole * self.tiling.vectors, rest)

    def blocks(self, chunk: Chunk, body: Callable[[Rows], None]) -> None:
        """``body(rows)`` for every few active output channels."""
        (first, count), rows = chunk.outputs, self.tiling.rows
        full = count // rows if isinstance(count, int) else let(tir.T.floordiv(count, rows))
        with loop(full) as block:
            at = let(first + block * rows)
            body([self.row(at + i) for i in range(rows)])
        if not self.kernel.epilogue.gate and self.shape.group_out % rows == 0:
            return
        # What is left goes by half tiles, whose surplus rows repeat the last channel.
        half, start = rows // 2, let(full * rows)
        with loop(tir.T.floordiv(count - start + half - 1, half)) as block:
            at, last = let(first + start + block * half), first + count - 1
            body([self.row(tir.minimum(at + i, last)) for i in range(half)])

    def row(self, position: Expr) -> tuple[Expr, Expr]:
        """The row of weights of the output at a position of the list, and its channel."""
        channel = let(self.output(position))
        return position if self.kernel.placed else channel, channel

    def tile(self, chunk: Chunk, rows: Rows, u: Expr, count: int) -> None:
        """One register tile: some ``rows`` x ``count`` vectors from ``u`` on."""
        lanes, shape = self.tiling.lanes, self.shape
        channels = [channel for _, channel in rows]
        acc = local(len(rows) * count * lanes)
        bases = [let(chunk.pixels.vector(u + v)) for v in range(count)]
        weights = [let(row * (shape.group_in * shape.taps)) for row, _ in rows]
        self.finish.start(acc, channels, count, lanes)
        accumulate(acc, weights, bases, lanes, chunk.inputs, chunk.weights, chunk.pixels)
        places = [self.place(u + v, chunk.first) for v in range(count)]
        self.finish.end(acc, channels, shape.pixels, places, lanes)

    def place(self, u: Expr, first: Expr) -> Place:
        """Where vector ``u`` of the chunk that starts at row ``first`` is stored."""
        lanes, shape = self.tiling.lanes, self.shape
        if self.tiling.mode == "padded":
            across = -(-shape.out_width // lanes)
            row = let(first + tir.T.floordiv(u, across))
            column = let(tir.T.floormod(u, across) * lanes)
            offset = let(row * shape.out_width + column)
            valid = shape.out_width % lanes
            if valid == 0:
                return Place(offset, None, lanes, None)
            if self.kernel.epilogue.residual == "in_place":
                partial = column + lanes > shape.out_width
            else:
                # What runs over lands in the next rows, which are stored later.
                partial = offset + lanes > shape.pixels
            return Place(offset, partial, valid, tir.minimum(shape.out_width - column, lanes))
        offset = let(first * shape.out_width + u * lanes)
        valid = shape.pixels % lanes
        if valid == 0:
            return Place(offset, None, lanes, None)
        partial = offset + lanes > shape.pixels
        return Place(offset, partial, valid, tir.minimum(shape.pixels - offset, lanes))

    def finish_inactive(self, outputs: Expr, others: Expr) -> None:
        """The channels that are not computed: residual and constant, behind the activation."""
        shape, lanes = self.shape, max(4, gcd(self.tiling.lanes, 16))
        y, epilogue = self.buffers["y"], self.kernel.epilogue
        source = self.buffers.get("residual", y) if epilogue.residual else None
        first, end = share(others, 1, self.part)
        with loop(end - first) as i:
            channel = let(self.output(outputs + first + i))
            start = let(channel * shape.pixels)
            constant = let(self.buffers["constant"][channel]) if self.kernel.placed else None

            def move(at: Expr, width: int, start: Expr = start, constant: Expr = constant) -> None:
                parts = [] if source is None else [load(source, start + at, width)]
                parts += [] if constant is None else [splat(constant, width)]
                value = parts[0] + parts[1] if len(parts) == 2 else parts[0]
                store(y, start + at, clamped(value, epilogue.clamp, width), width)

            whole = shape.pixels // lanes
            if whole:
                with loop(whole) as v:
                    move(v * lanes, lanes)
            for at in range(whole * lanes, shape.pixels):
                move(at, 1)
