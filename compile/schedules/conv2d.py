"""A convolution that visits only the active channels of its input and of its output.

One schedule for every kernel size, stride, padding, dilation and number of groups, dense or gated
on either side; depthwise convolutions have their own (``depthwise.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from tvm.tirx import PrimFunc

from headgate.compile.schedules import tir
from headgate.compile.schedules.microkernel import (
    Epilogue,
    Finish,
    Pixels,
    Place,
    Weights,
    accumulate,
)
from headgate.compile.schedules.packing import clear_border, gather_columns, pad_rows
from headgate.compile.schedules.tiling import ConvShape, Tiling
from headgate.compile.schedules.tir import Buffer, Expr, let, load, local, loop, splat, store, when


@dataclass(frozen=True)
class ConvKernel:
    """Everything that makes one convolution's code; equal kernels share it."""

    shape: ConvShape
    tiling: Tiling
    epilogue: Epilogue
    gated_in: bool
    inactive: str | None = None
    """What inactive output channels need: None, ``"clamp"`` (of the residual)."""
    weight_lanes: int = 1

    def parameters(self) -> list[tuple[str, str]]:
        """The C function's arguments, in order: (name, dtype)."""
        floats = ["x", "weight", "bias", "y"]
        if self.epilogue.gate:
            floats += ["gate", "shift"]
        if self.epilogue.residual == "separate":
            floats.append("residual")
        if self.epilogue.means:
            floats.append("sums")
        if self.tiling.mode != "direct":
            floats.append("scratch")
        names = [(name, "float32") for name in floats]
        if self.epilogue.gate:
            names += [("out_list", "int32"), ("out_count", "int32")]
        if self.gated_in:
            names += [("in_list", "int32"), ("in_count", "int32")]
        return names

    def build(self, name: str) -> PrimFunc:
        """The TIR of this kernel as a C function called ``name``."""
        names = [key for key, _ in self.parameters()]
        return tir.prim_func(
            name,
            self.parameters(),
            lambda *b: _Emitter(self, dict(zip(names, b, strict=True))).run(),
        )


class _Emitter:
    def __init__(self, kernel: ConvKernel, buffers: dict[str, Buffer]) -> None:
        self.kernel, self.shape, self.tiling = kernel, kernel.shape, kernel.tiling
        self.buffers = buffers
        self.finish = Finish(
            kernel.epilogue,
            buffers["y"],
            buffers["bias"],
            buffers.get("gate"),
            buffers.get("shift"),
            buffers.get("residual"),
            buffers.get("sums"),
        )

    def run(self) -> None:
        shape, kernel = self.shape, self.kernel
        outputs = let(self.buffers["out_count"][0]) if kernel.epilogue.gate else shape.out_channels
        inputs = let(self.buffers["in_count"][0]) if kernel.gated_in else shape.in_channels
        if kernel.epilogue.means:
            with loop(outputs) as i:
                channel = self.output(i)
                store(
                    self.buffers["sums"],
                    channel * self.tiling.lanes,
                    splat(0, self.tiling.lanes),
                    self.tiling.lanes,
                )
        with loop(shape.groups) as group:
            out_from, out_count = self.segment("out_list", outputs, group, shape.group_out)
            in_from, in_count = self.segment("in_list", inputs, group, shape.group_in)
            self.group(group, in_from, in_count, out_from, out_count)
        if kernel.inactive:
            self.finish_inactive(outputs)

    def segment(self, name: str, count: Expr, group: Expr, size: int) -> tuple[Expr, Expr]:
        """The part of a list that lies in a group: (first position, length)."""
        if self.shape.groups == 1:
            return 0, count
        if name not in self.buffers:
            return group * size, size
        found = local(2, "int32")
        for i in range(2):
            store(found, i, tir.tirx.IntImm("int32", 0))
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

    def group(
        self, group: Expr, in_from: Expr, inputs: Expr, out_from: Expr, outputs: Expr
    ) -> None:
        shape, tiling = self.shape, self.tiling
        gated_in = self.kernel.gated_in

        def channel(j: Expr) -> Expr:
            return self.buffers["in_list"][in_from + j] if gated_in else in_from + j

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
            self.tiles(shape.out_height, 0, inputs, weights, pixels, out_from, outputs)
            return
        clear_border(shape, tiling, self.buffers["scratch"], inputs)
        chunks = tiling.chunks(shape)
        whole = [rows for rows in chunks if rows == chunks[0]]
        with loop(len(whole)) as chunk:
            first = let(chunk * chunks[0])
            self.chunk(first, chunks[0], channel, inputs, weights, out_from, outputs)
        if len(whole) < len(chunks):
            first = len(whole) * chunks[0]
            self.chunk(first, chunks[-1], channel, inputs, weights, out_from, outputs)

    def chunk(self, first, rows, channel, inputs, weights, out_from, outputs) -> None:
        shape, tiling = self.shape, self.tiling
        scratch = self.buffers["scratch"]
        pad_rows(shape, tiling, self.buffers["x"], scratch, inputs, channel, first)
        pitch = tiling.padded_pitch(shape)
        if tiling.mode == "padded":
            across = -(-shape.out_width // tiling.lanes)
            pixels = Pixels(
                scratch,
                lambda u: (
                    tir.T.floordiv(u, across) * pitch + tir.T.floormod(u, across) * tiling.lanes
                ),
                lambda j: j * (tiling.padded_rows(shape) * pitch),
                lambda r, s: r * (shape.dilation[0] * pitch) + s * shape.dilation[1],
            )
        else:
            start = tiling.padded_size(shape)
            depth = shape.group_in * shape.taps
            gather_columns(shape, tiling, scratch, start, inputs, rows)
            pixels = Pixels(
                scratch,
                lambda u: start + u * (depth * tiling.lanes),
                lambda j: j * (shape.taps * tiling.lanes),
                lambda r, s: (r * shape.kernel[1] + s) * tiling.lanes,
            )
        self.tiles(rows, first, inputs, weights, pixels, out_from, outputs)

    def tiles(self, rows, first, inputs, weights, pixels, out_from, outputs) -> None:
        """All tiles of a chunk of ``rows`` output rows from row ``first`` on."""
        tiling = self.tiling
        whole, rest = divmod(tiling.chunk_vectors(self.shape, rows), tiling.vectors)

        def blocks(u: Expr, vectors: int) -> None:
            full = (
                outputs // tiling.rows
                if isinstance(outputs, int)
                else tir.T.floordiv(outputs, tiling.rows)
            )
            with loop(full) as block:
                at = let(out_from + block * tiling.rows)
                channels = [let(self.output(at + i)) for i in range(tiling.rows)]
                self.tile(channels, u, vectors, first, inputs, weights, pixels)
            if isinstance(outputs, int) and outputs % tiling.rows == 0:
                return
            half = tiling.rows // 2
            start = let(full * tiling.rows)
            with loop(tir.T.floordiv(outputs - start + half - 1, half)) as block:
                last = out_from + outputs - 1
                at = let(out_from + start + block * half)
                channels = [let(self.output(tir.minimum(at + i, last))) for i in range(half)]
                self.tile(channels, u, vectors, first, inputs, weights, pixels)

        if whole:
            with loop(whole) as g:
                blocks(g * tiling.vectors, tiling.vectors)
        if rest:
            blocks(whole * tiling.vectors, rest)

    def tile(self, channels, u, vectors, first, inputs, weights, pixels) -> None:
        lanes, shape = self.tiling.lanes, self.shape
        acc = local(len(channels) * vectors * lanes)
        bases = [let(pixels.vector(u + v)) for v in range(vectors)]
        rows = [let(c * (shape.group_in * shape.taps)) for c in channels]
        self.finish.start(acc, channels, vectors, lanes)
        accumulate(acc, rows, bases, lanes, inputs, weights, pixels)
        places = [self.place(u + v, first) for v in range(vectors)]
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
            over = column + lanes > shape.out_width
            if self.kernel.epilogue.residual != "in_place":
                # What runs over lands in the next row, which is stored later.
                partial = tir.tirx.all(over, row == shape.out_height - 1)
            else:
                partial = over
            return Place(offset, partial, valid, tir.minimum(shape.out_width - column, lanes))
        offset = let(first * shape.out_width + u * lanes)
        valid = shape.pixels % lanes
        if valid == 0:
            return Place(offset, None, lanes, None)
        partial = offset + lanes > shape.pixels
        return Place(offset, partial, valid, tir.minimum(shape.pixels - offset, lanes))

    def finish_inactive(self, outputs: Expr) -> None:
        """Inactive channels of a residual sum are the residual, behind the activation."""
        shape, lanes = self.shape, max(4, gcd(self.tiling.lanes, 16))
        y = self.buffers["y"]
        source = self.buffers.get("residual", y)
        with loop(shape.out_channels - outputs) as i:
            start = let(self.output(outputs + i) * shape.pixels)

            def move(at: Expr, width: int, start: Expr = start) -> None:
                value = self.kernel.epilogue.clamped(load(source, start + at, width), width)
                store(y, start + at, value, width)

            whole = shape.pixels // lanes
            if whole:
                with loop(whole) as v:
                    move(v * lanes, lanes)
            for at in range(whole * lanes, shape.pixels):
                move(at, 1)
