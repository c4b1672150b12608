"""An int8 convolution by VMLADAVA, dense or with only the active channels of either side.

The activations of active channels are copied pixel by pixel. Two outputs at a time meet all
pixels of the copy; where inputs are gated, their weights are put together just before. Their sums
are kept, and are finished four pixels at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from headgate.compile.isa.base import DotIsa
from headgate.compile.isa.mve import (
    BYTES,
    FRAME,
    Row,
    add_row,
    hidden,
    multiply_add,
    rows_of_tiles,
    write_frame,
)
from headgate.compile.kernels import tir
from headgate.compile.kernels.convolution import ConvRequest, ConvShape, Epilogue, by_channel
from headgate.compile.kernels.i8 import inner
from headgate.compile.kernels.i8.epilogue import epilogue_parameters
from headgate.compile.kernels.i8.words import FLIP
from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.lists import list_parameters
from headgate.compile.kernels.mve.copying import Copy
from headgate.compile.kernels.mve.finish import Finish
from headgate.compile.kernels.mve.gathering import Gathering
from headgate.compile.kernels.mve.layout import OUTPUTS, PIXELS, Layout
from headgate.compile.kernels.smlad.groups import Groups
from headgate.compile.kernels.smlad.words import quotient, rest
from headgate.compile.kernels.tir import Buffer, Expr, int32, let, load, loop, store, when
from headgate.device.tensor_type import FLOAT32, INT8, INT32, UINT8, TensorType

_SIZES = (3, 2)
"""Outputs of a tile."""


@dataclass(frozen=True)
class ConvKernel(Kernel):
    """Everything that makes one convolution's code; equal kernels share it."""

    layout: Layout
    epilogue: Epilogue
    gated_in: bool
    clamp_inactive: bool
    placed: int
    dtypes: tuple[str, ...]
    """Of the input, of the residual where there is one, and of the result."""

    @classmethod
    def of(cls, isa: DotIsa, *_: Any, request: ConvRequest, dtypes: tuple[str, ...]) -> Kernel:
        """This kernel, or that of any instructions for thousands of inputs."""
        layout = Layout.of(request.shape, request.gated_in)
        if not layout.countable:
            return inner.InnerConv.of(isa, request=request, dtypes=dtypes)
        sides = (request.gated_in, request.clamp_inactive, request.placed)
        return cls(layout, request.epilogue, *sides, dtypes)

    @property
    def shape(self) -> ConvShape:
        return self.layout.shape

    @property
    def unrolled(self) -> bool:
        """Whether a tile is so small that a loop would be the larger part of it."""
        return not self.gated_in and self.layout.small

    def row(self, outputs: int) -> Row:
        """How rows of tiles of so many outputs are written."""
        layout = self.layout
        return Row(outputs, layout.run_groups, layout.run_group, layout.sums)

    def parameters(self) -> list[Parameter]:
        x, *_, y = self.dtypes
        found = [("x", x), ("weight", INT8), ("bias", INT32), ("factor", FLOAT32), ("y", y)]
        found += epilogue_parameters(self.epilogue, self.dtypes)
        found += [(name, tensor.dtype) for name, tensor in self.scratch().items()]
        if self.epilogue.gate:
            found += list_parameters("out")
        elif self.placed:
            found.append(list_parameters("out")[0])
        if self.placed:
            found.append(("constant", FLOAT32))
        if self.gated_in:
            found += list_parameters("in")
        return found

    def scratch(self) -> dict[str, TensorType]:
        layout = self.layout
        found = {
            "packed": TensorType((layout.packed,), INT8),
            "sums": TensorType((OUTPUTS * layout.sums,), INT32),
        }
        if not self.unrolled:
            found["chosen"] = TensorType((OUTPUTS * layout.depth(),), INT8)
            found["frame"] = TensorType((FRAME,), INT32)
        if self.gated_in:
            found["places"] = TensorType((layout.vectors() * BYTES,), "uint16")
        return found

    def constants(self, attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The kernel's constant arguments from those of its node."""
        weight, bias = attributes["weight"], attributes["bias"]
        if not self.gated_in and self.dtypes[0] == UINT8:
            totals = weight.reshape(len(weight), -1).sum(1, dtype=np.int64)
            bias = (bias + FLIP * totals).astype(np.int32)
        rows = self.layout.sources_of if self.gated_in else self.layout.rows_of
        found = {
            "weight": rows(weight),
            "bias": by_channel(attributes, bias),
            "factor": by_channel(attributes, attributes["factor"]),
        }
        if self.epilogue.residual:
            found["residual_factor"] = np.array([attributes["residual_factor"]], np.float32)
        return found

    def _body(self, **buffers: Buffer) -> None:
        with rows_of_tiles([self.row(size) for size in _SIZES]):
            _Emitter(self, buffers).run()


class _Emitter(Groups):
    def __init__(self, kernel: ConvKernel, buffers: dict[str, Buffer]) -> None:
        super().__init__(kernel, buffers, Finish.of(kernel.epilogue, kernel.dtypes, buffers))

    def _group(self, group: Expr, inputs: tuple[Expr, Expr], outputs: tuple[Expr, Expr]) -> None:
        kernel, layout, shape = self.kernel, self.layout, self.shape
        first_in, count = inputs

        def channel(j: Expr) -> Expr:
            return self.buffers["in_list"][first_in + j] if kernel.gated_in else first_in + j

        copy = Copy(layout, self.buffers["x"], self.buffers["packed"], count, channel)
        gathering = None
        if not kernel.unrolled:
            size, gated = shape.group_in, kernel.gated_in
            gathering = Gathering(
                layout,
                self.buffers["weight"],
                self.buffers["chosen"],
                count,
                self.buffers.get("places"),
                (lambda j: channel(j) - group * size) if gated else None,
            )
            gathering.prepare()
            self._frame(count)
        end = shape.out_height if layout.whole_rows else shape.pixels
        with loop(layout.chunks) as index:
            first = let(index * layout.chunk)
            equal = end % layout.chunk == 0
            size = layout.chunk if equal else let(tir.minimum(end - first, layout.chunk))
            copy.fill(first, size)

            def block(
                position: Expr, outputs: Expr, own: Expr, first: Expr = first, size: Expr = size
            ) -> None:
                self._block(position, outputs, own, gathering, count, first, size)

            self._blocks(outputs, block)

    def _blocks(self, outputs: tuple[Expr, Expr], body: Callable[[Expr, Expr, Expr], None]) -> None:
        """``body(position, size, own)`` for tiles of threes, then of twos rather than a single one.

        ``own`` is how many outputs of the tile there are: a single one is computed twice.
        """
        first, count = outputs
        count = int32(count) if isinstance(count, int) else count
        twos = let(tir.minimum(rest(2 * count, OUTPUTS), count))
        threes = let(quotient(tir.maximum(count - 2 * twos, 0), OUTPUTS))
        with loop(let(threes + twos)) as b:
            three = b < threes
            size = let(tirx.Select(three, int32(3), int32(2)))
            past = let(tirx.Select(three, b * 3, threes * 3 + (b - threes) * 2))
            body(let(first + past), size, let(tir.minimum(count - past, size)))

    def _output(self, position: Expr) -> Expr:
        """The output channel at a position of the list."""
        return self.buffers["out_list"][position] if "out_list" in self.buffers else position

    def _block(
        self,
        position: Expr,
        size: Expr,
        own: Expr,
        gathering: Gathering | None,
        count: Expr,
        first: Expr,
        chunk: Expr,
    ) -> None:
        """The outputs of a tile from ``position`` on, for all pixels of a chunk."""
        layout, shape, buffers = self.layout, self.shape, self.buffers

        def channel_of(i: Expr) -> tuple[Expr, Expr]:
            """The row of weights and the channel of an output."""
            place = let(position + tir.minimum(i, own - 1))
            channel = let(self._output(place))
            return place if self.kernel.placed else channel, channel

        if gathering is not None:
            with loop(hidden(size)) as i:
                row, channel = channel_of(i)
                total = gathering.gather(row, i, size)
                bias = buffers["bias"][channel]
                corrected = self.kernel.gated_in and buffers["x"].dtype == UINT8
                bias = let(bias + total * FLIP if corrected else bias)
                for v in range(PIXELS):
                    store(buffers["frame"], i * PIXELS + v, bias)
        plane = shape.out_width if layout.whole_rows else 1
        done = chunk * plane if isinstance(chunk, int) else let(chunk * plane)
        rows, width = (1, done) if layout.points else (chunk, shape.out_width)
        for outputs in _SIZES:
            with when(size == outputs):
                if gathering is not None:
                    self._looped(outputs, count, rows, width)
                    continue
                found = [channel_of(i) for i in range(outputs)]
                biases = [let(buffers["bias"][channel]) for _, channel in found]
                starts = [let(row * layout.depth()) for row, _ in found]
                self._unrolled(biases, starts, rows, width)
        with loop(hidden(own)) as i:
            channel = let(self._output(position + i))
            scale, shift = buffers["factor"][channel], None
            if self.kernel.epilogue.gate:
                scale = scale * buffers["gate"][channel]
                shift = let(buffers["shift"][channel])
            into = let(channel * shape.pixels + first * plane)
            begin = let(i * layout.sums)
            self.finish.end(buffers["sums"], begin, into, done, let(scale), shift)

    def _each_row(
        self, count: Expr, rows: Expr, width: Expr, body: Callable[[Expr, Expr, Expr, Expr], None]
    ) -> None:
        """``body(start, across, sums, tiles)`` for the rows of a chunk, of ``count`` channels.

        It begins at ``start`` of the copy, pixels lie ``across`` apart, and its sums go to
        ``sums``. A pixel that there is none of, at the end of a row, is overwritten by the next
        row's first.
        """
        layout = self.layout
        down = let(layout.down * layout.rows_of_cell * count)
        across = let(layout.across * layout.rows_of_cell * count)
        tiles = quotient(width + (PIXELS - 1), PIXELS)
        with loop(1 if layout.points else hidden(rows)) as y:
            body(let(y * down), across, let(y * width), tiles)

    def _frame(self, count: Expr) -> None:
        """Writes what rows of tiles of so many channels have in common."""
        layout = self.layout
        run = let(layout.vectors(count) * BYTES)
        last, group = layout.runs - 1, layout.run_group
        between = layout.run_start(group) - layout.run_start(group - 1)
        steps = let(layout.run_step * count - run), let(between * count - run)
        next_tile = PIXELS * layout.across * layout.rows_of_cell
        back = let((next_tile - layout.run_start(last)) * count - run)
        write_frame(self.buffers["frame"], steps, back)

    def _looped(self, outputs: int, count: Expr, rows: Expr, width: Expr) -> None:
        """The sums of a tile's outputs for all pixels of a chunk, from the frame's biases on."""
        packed, sums = self.buffers["packed"], self.buffers["sums"]
        weights, frame = self.buffers["chosen"], self.buffers["frame"]
        vectors = let(self.layout.vectors(count))

        row = self.kernel.row(outputs)

        def each(start: Expr, across: Expr, into: Expr, tiles: Expr) -> None:
            pixels = [(packed, start), (packed, let(start + across))]
            add_row(row, pixels, weights, (sums, into), frame, vectors, tiles)

        self._each_row(count, rows, width, each)

    def _unrolled(self, biases: list[Expr], weights: list[Expr], rows: Expr, width: Expr) -> None:
        """The same without a loop in a tile; ``weights``: where those of each output begin."""
        layout, sums = self.layout, self.buffers["sums"]
        acc = tir.local(len(biases) * PIXELS, INT32)

        def row(start: Expr, across: Expr, into: Expr, tiles: Expr) -> None:
            with loop(hidden(tiles)) as u:
                first = let(start + u * (PIXELS * across))
                for at in range(len(biases) * PIXELS):
                    store(acc, at, biases[at // PIXELS])
                self._add(acc, weights, [first, let(first + across)])
                for at in range(len(biases) * PIXELS):
                    place = into + u * PIXELS + (at // PIXELS * layout.sums + at % PIXELS)
                    store(sums, place, acc[at])

        self._each_row(layout.shape.group_in, rows, width, row)

    def _add(self, acc: Buffer, weights: list[Expr], pixels: list[Expr]) -> None:
        layout, packed, weight = self.layout, self.buffers["packed"], self.buffers["weight"]
        size, vectors = layout.shape.group_in, layout.vectors()
        for run in range(layout.runs):
            there = layout.run_start(run) * size
            for k in range(vectors):
                own = [let(load(packed, p + (there + k * BYTES), BYTES)) for p in pixels]
                for i, start in enumerate(weights):
                    other = let(load(weight, start + (run * vectors + k) * BYTES, BYTES))
                    for v, pixel in enumerate(own):
                        at = i * PIXELS + v
                        store(acc, at, multiply_add(pixel, other, acc[at]))
