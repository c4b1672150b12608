"""An int8 convolution by SMLAD, dense or with only the active channels of either side.

The activations of active channels are copied as pairs, with their border; for two pixels at a
time they are put into columns, which meet one block of weights after another. Weights of a dense
layer lie in blocks from the start, those of a gated one are put together once for each image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from headgate.compile.isa.base import DotIsa
from headgate.compile.isa.smlad import multiply_add, pairing, rolled, two_words
from headgate.compile.kernels import tir
from headgate.compile.kernels.convolution import ConvRequest, ConvShape, Epilogue, by_channel
from headgate.compile.kernels.i8.epilogue import epilogue_parameters
from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.lists import list_parameters
from headgate.compile.kernels.smlad.columns import Columns, Tile
from headgate.compile.kernels.smlad.finish import ROW, Finish, constant_rows, write_row
from headgate.compile.kernels.smlad.gathering import Blocks, Gathering
from headgate.compile.kernels.smlad.groups import Groups
from headgate.compile.kernels.smlad.layout import BLOCK, PIXELS, UNROLL, Layout, block_sizes
from headgate.compile.kernels.smlad.words import quotient
from headgate.compile.kernels.tir import Buffer, Expr, int32, let, loop, store
from headgate.device.tensor_type import FLOAT32, INT8, INT16, INT32, TensorType


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
    def of(cls, isa: DotIsa, *_: Any, request: ConvRequest, dtypes: tuple[str, ...]) -> ConvKernel:
        layout = Layout.of(request.shape, request.gated_in)
        sides = (request.gated_in, request.clamp_inactive, request.placed)
        return cls(layout, request.epilogue, *sides, dtypes)

    @property
    def shape(self) -> ConvShape:
        return self.layout.shape

    @property
    def gathers(self) -> bool:
        """Whether weights are put together when running."""
        return self.gated_in or self.epilogue.gate

    def parameters(self) -> list[Parameter]:
        x, *_, y = self.dtypes
        found = [("x", x), ("weight", INT8 if self.gated_in else INT32), ("y", y)]
        if self.gathers:
            found += [("bias", INT32), ("factor", FLOAT32)]
        else:
            found.append(("outputs", INT32))
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
        found = {"columns": TensorType((layout.columns,), INT32)}
        if layout.mode != "points":
            dtype = INT16 if layout.mode == "rows" else INT32
            found["packed"] = TensorType((layout.packed,), dtype)
        if self.gathers:
            rows = -(-self.shape.group_out // BLOCK) * BLOCK
            found["chosen"] = TensorType((layout.gathered,), INT32)
            found["outputs"] = TensorType((rows * ROW,), INT32)
        return found

    def constants(self, attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The kernel's constant arguments from those of its node."""
        weight, bias = attributes["weight"], attributes["bias"]
        if self.gathers:
            found = {
                "weight": weight if self.gated_in else self.layout.words(weight),
                "bias": by_channel(attributes, bias),
                "factor": by_channel(attributes, attributes["factor"]),
            }
        else:
            channels = attributes.get("placed", range(self.shape.out_channels))
            factor, pixels = attributes["factor"], self.shape.pixels
            found = {
                "weight": self.layout.blocks(weight),
                "outputs": constant_rows(channels, pixels, bias, factor),
            }
        if self.epilogue.residual:
            found["residual_factor"] = np.array([attributes["residual_factor"]], np.float32)
        return found

    def _body(self, **buffers: Buffer) -> None:
        with pairing():
            _Emitter(self, buffers).run()


@dataclass(frozen=True)
class _Weights:
    """A block of weights from word ``start`` on; ``pitch`` words from one term to the next."""

    buffer: Buffer
    start: Expr
    pitch: int

    def reader(self, term: Expr, size: int) -> Callable[[int, int], Expr]:
        """``weight(half, output)`` of a term, or of the next; asked for in the order in memory."""
        first = let(self.start + term * self.pitch)
        found: dict[int, Expr] = {}

        def weight(half: int, output: int) -> Expr:
            at = half * self.pitch + output
            if at not in found:
                found[at], found[at + 1] = two_words(self.buffer, first + at)
            return found[at]

        return weight


class _Emitter(Groups):
    def __init__(self, kernel: ConvKernel, buffers: dict[str, Buffer]) -> None:
        super().__init__(kernel, buffers, Finish.of(kernel.epilogue, kernel.dtypes, buffers))

    def _group(self, group: Expr, inputs: tuple[Expr, Expr], outputs: tuple[Expr, Expr]) -> None:
        kernel, layout = self.kernel, self.layout
        first_in, count = inputs

        def channel(j: Expr) -> Expr:
            return self.buffers["in_list"][first_in + j] if kernel.gated_in else first_in + j

        packed = self.buffers.get("packed")
        columns = Columns(
            layout, self.buffers["x"], packed, self.buffers["columns"], count, channel
        )
        depth = layout.depth(count)
        if columns.whole:
            columns.fill(0)
        if not kernel.gathers:
            self._pixels(columns, depth, lambda tile: self._constant_blocks(group, depth, tile))
            return
        size = self.shape.group_in
        gathering = Gathering(
            layout,
            self.buffers["weight"],
            self.buffers["chosen"],
            count,
            depth,
            (lambda j: channel(j) - group * size) if kernel.gated_in else None,
        )

        def some(first: Expr, number: Expr) -> None:
            blocks = Blocks.of(number)
            self._prepare(gathering, blocks, first)
            self._pixels(columns, depth, lambda tile: self._chosen_blocks(blocks, depth, tile))

        if layout.gathers_all:
            some(*outputs)
            return
        # As many outputs at a time as there is room for the weights of.
        room = quotient(int32(layout.gathered), tir.maximum(depth, 1))
        room = let(quotient(room, BLOCK) * BLOCK)
        done = tir.local(1, INT32)
        store(done, 0, int32(0))
        with loop(quotient(outputs[1] + (room - 1), room)):
            now = let(done[0])
            some(let(outputs[0] + now), let(tir.minimum(outputs[1] - now, room)))
            store(done, 0, now + room)

    def _prepare(self, gathering: Gathering, blocks: Blocks, first: Expr) -> None:
        """Weights and rows of the outputs from position ``first`` on."""

        def row(i: Expr) -> Expr:
            return first + i if self.kernel.placed else self._output(first + i)

        gathering.gather(blocks, row)
        with loop(blocks.rows) as i:
            position = first + tir.minimum(i, blocks.outputs - 1)
            self._write_row(i, let(self._output(position)))

    def _write_row(self, i: Expr, channel: Expr) -> None:
        write_row(self.buffers, self.buffers["outputs"], i, channel, self.shape.pixels)

    def _output(self, position: Expr) -> Expr:
        """The output channel at a position of the list."""
        return self.buffers["out_list"][position] if "out_list" in self.buffers else position

    def _pixels(self, columns: Columns, depth: Expr, body: Any) -> None:
        """``body`` for every tile."""

        def chunk(first: Expr) -> None:
            if not columns.whole:
                columns.fill(first)
            columns.tiles(first, body)

        columns.chunks(chunk)

    def _constant_blocks(self, group: Expr, depth: int, tile: Tile) -> None:
        sizes, outputs = block_sizes(self.shape.group_out), self.shape.group_out
        done = 0
        for size in dict.fromkeys(sizes):
            with loop(sizes.count(size)) as b:
                row = let(group * outputs + done + b * size)
                weights = _Weights(self.buffers["weight"], let(row * depth), size)
                self._block(weights, row, size, depth, tile)
            done += size * sizes.count(size)

    def _chosen_blocks(self, blocks: Blocks, depth: Expr, tile: Tile) -> None:
        def block(number: Expr, row: Expr, size: int) -> None:
            start = let(number * (depth * BLOCK))
            weights = _Weights(self.buffers["chosen"], start, BLOCK)
            self._block(weights, row, size, depth, tile)

        blocks.each(block)

    def _block(self, weights: _Weights, row: Expr, size: int, depth: Expr, tile: Tile) -> None:
        """Two pixels of the outputs whose rows begin at ``row``."""
        acc = tir.local(size * PIXELS, INT32)
        outputs, columns = let(row * ROW), self.buffers["columns"]
        self.finish.begin(acc, outputs, size)
        turns = quotient(depth, UNROLL)
        # Blocks of two are few; writing out their loop, too, costs more code than it saves time.
        with (loop if size == BLOCK else rolled)(turns) as turn:
            for u in range(0, UNROLL, 2):
                own = weights.reader(turn * UNROLL + u, size)
                for half in range(2):
                    term = turn * UNROLL + (u + half)
                    pixels = two_words(columns, tile.columns + term * PIXELS)
                    for i in range(size):
                        weight = own(half, i)
                        for v in range(PIXELS):
                            at = i * PIXELS + v
                            store(acc, at, multiply_add(pixels[v], weight, acc[at]))
        self.finish.end(acc, outputs, size, tile.pixels)
