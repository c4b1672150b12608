"""An int8 convolution that visits only the active channels of its input and of its output.

The loops are those of float32, over words of four inputs. Where the input is gated, the weights
of the active channels are put together first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headgate.compile.isa.base import DotIsa
from headgate.compile.kernels import tir
from headgate.compile.kernels.conv_loops import Chunk, ConvLoops, Inputs, Rows
from headgate.compile.kernels.convolution import ConvRequest, ConvShape, Epilogue, by_channel
from headgate.compile.kernels.i8.choosing import Choosing
from headgate.compile.kernels.i8.epilogue import epilogue_parameters
from headgate.compile.kernels.i8.microkernel import (
    TOGETHER_WORDS,
    Finish,
    Weights,
    accumulate,
    zero,
)
from headgate.compile.kernels.i8.packing import pad_words
from headgate.compile.kernels.i8.words import (
    CODES_PER_WORD,
    correction,
    flip_word,
    store_codes,
)
from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.lists import list_parameters
from headgate.compile.kernels.split import PART
from headgate.compile.kernels.tiling import Tiling, choose_tiling
from headgate.compile.kernels.tir import Buffer, Expr, int32, let, load, splat, store
from headgate.device.tensor_type import FLOAT32, INT32, UINT8, TensorType

SMALL_WEIGHTS = 128 << 10
"""Bytes of chosen weights that may be kept for all outputs at once."""
_OVERRUN = 16
"""Words behind the weights that a vector may read."""


@dataclass(frozen=True)
class ConvKernel(Kernel):
    """Everything that makes one convolution's code; equal kernels share it.

    ``shape`` counts channels, ``words`` the words of four that they make.
    """

    isa: DotIsa
    shape: ConvShape
    words: ConvShape
    tiling: Tiling
    epilogue: Epilogue
    gated_in: bool
    clamp_inactive: bool
    placed: int
    dtypes: tuple[str, ...]
    """Of the input, of the residual where there is one, and of the result."""

    @classmethod
    def of(cls, isa: DotIsa, *_: Any, request: ConvRequest, dtypes: tuple[str, ...]) -> ConvKernel:
        shape, epilogue = request.shape, request.epilogue
        words = in_words(shape, isa.lanes)
        tiling = choose_tiling(
            words,
            isa,
            gated_in=request.gated_in,
            gated_out=epilogue.gate,
            rows=isa.rows,
            packed=True,
        )
        if request.gated_in:
            tiling = _whole(tiling, shape, words)
        sides = (request.gated_in, request.clamp_inactive, request.placed)
        return cls(isa, shape, words, tiling, epilogue, *sides, dtypes)

    @property
    def choosing(self) -> Choosing:
        return Choosing.of(self.isa, self.shape.group_in, self.shape.taps, self.dtypes[0])

    @property
    def chooses_once(self) -> bool:
        """Whether weights are chosen for all outputs before the first pixel is multiplied."""
        return self.gated_in and len(self.tiling.chunks(self.words)) > 1

    @property
    def together(self) -> int:
        """Outputs whose chosen weights lie together: a tile's, where it loads vectors of them."""
        return self.tiling.rows if self.isa.weight_lanes == TOGETHER_WORDS else 1

    def parameters(self) -> list[Parameter]:
        x, *_, y = self.dtypes
        found = [("x", x), ("weight", INT32), ("bias", INT32), ("factor", FLOAT32), ("y", y)]
        found += epilogue_parameters(self.epilogue, self.dtypes)
        if self.epilogue.means:
            found.append(("sums", INT32))
        found += [(name, tensor.dtype) for name, tensor in self.scratch().items()]
        if self.epilogue.gate:
            found += list_parameters("out")
        if self.placed:
            found += [("constant", FLOAT32), list_parameters("out")[0]]
        if self.gated_in:
            found += list_parameters("in")
        return [*found, PART]

    def scratch(self) -> dict[str, TensorType]:
        found = {"scratch": TensorType((self.tiling.scratch_size(self.words),), INT32)}
        if self.epilogue.gate:
            channels = self.placed or self.shape.out_channels
            found["factors"] = TensorType((channels,), FLOAT32)
        if self.gated_in:
            rows = self.shape.group_out if self.chooses_once else self.tiling.rows
            rows = -(-rows // self.together) * self.together
            size = rows * self.shape.taps * self.choosing.pitch + _OVERRUN
            found |= {
                **self.choosing.scratch(),
                "chosen": TensorType((size * CODES_PER_WORD,), UINT8),
                "biases": TensorType((rows,), INT32),
            }
        return found

    @property
    def sums(self) -> TensorType | None:
        """What a following gate finds its channel means in: partial sums (channels, lanes)."""
        if not self.epilogue.means:
            return None
        return TensorType((self.shape.out_channels, self.tiling.lanes), INT32)

    def constants(self, attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The kernel's constant arguments from those of its node."""
        weight, bias = attributes["weight"], attributes["bias"]
        if not self.gated_in:
            bias = corrected(self.isa, self.dtypes[0], weight, bias)
        found = {
            "weight": pack(weight),
            "bias": by_channel(attributes, bias),
            "factor": by_channel(attributes, attributes["factor"]),
        }
        if self.epilogue.residual:
            found["residual_factor"] = np.array([attributes["residual_factor"]], np.float32)
        return found

    def _body(self, **buffers: Buffer) -> None:
        ConvEmitter(self, buffers).run()


def pack(weight: np.ndarray) -> np.ndarray:
    """Weights int8 (outputs, inputs, ...) as words ``[output][tap][word]``."""
    outputs, inputs = weight.shape[:2]
    taps = weight.reshape(outputs, inputs, -1).transpose(0, 2, 1)
    padded = np.pad(taps, ((0, 0), (0, 0), (0, -inputs % CODES_PER_WORD)))
    words = np.ascontiguousarray(padded).view(np.int32).reshape(-1)
    return np.concatenate([words, np.zeros(_OVERRUN, np.int32)])


def corrected(isa: DotIsa, dtype: str, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Biases (outputs,) int32 that undo the flips of a dense input."""
    sums = weight.reshape(len(weight), -1).sum(axis=1, dtype=np.int64)
    return (bias + correction(isa, dtype) * sums).astype(np.int32)


def in_words(shape: ConvShape, lanes: int) -> ConvShape:
    """The same convolution of words; the pixels of a 1x1 one lie in rows of whole vectors."""
    inputs = shape.groups * -(-shape.group_in // CODES_PER_WORD)
    if not shape.pointwise:
        return replace(shape, in_channels=inputs)
    rows = next(
        (n for n in range(shape.height, 1, -1) if shape.pixels % (n * lanes) == 0),
        1,
    )
    return replace(shape, in_channels=inputs, height=rows, width=shape.pixels // rows)


def _whole(tiling: Tiling, shape: ConvShape, words: ConvShape) -> Tiling:
    """With all rows at once where chosen weights of all outputs are too many, or take more memory.

    Then those of a tile are chosen just before it is computed.
    """
    weights = shape.group_in * shape.group_out * shape.taps
    whole = replace(tiling, chunk_rows=words.out_height)
    pixels = (whole.scratch_size(words) - tiling.scratch_size(words)) * CODES_PER_WORD
    if weights > SMALL_WEIGHTS or pixels < weights // 2:
        tiling = whole
    return replace(tiling, weights_outer=True)


class ConvEmitter(ConvLoops):
    """The loops for int8, whose inputs are multiplied four by four."""

    kernel: ConvKernel

    def __init__(self, kernel: ConvKernel, buffers: dict[str, Buffer]) -> None:
        super().__init__(kernel, kernel.words, buffers)
        self.isa, self.dtype = kernel.isa, kernel.dtypes[0]
        self.border = flip_word(kernel.isa, self.dtype)
        scaled = {"factor": buffers["factors"], "gate": None} if kernel.epilogue.gate else {}
        self.finish = Finish.of(kernel.isa, kernel.epilogue, kernel.dtypes, {**buffers, **scaled})
        self.choosing = kernel.choosing
        self.pitch = -(-kernel.shape.group_in // CODES_PER_WORD)

    def inputs(self, group: Expr, first: Expr, count: Expr) -> Inputs:
        size = self.kernel.shape.group_in
        if self.kernel.gated_in:
            order = self.buffers["in_list"]

            def members(j: Expr, lanes: int) -> Expr:
                return load(order, first + j, lanes) - splat(group * size, lanes, INT32)

            self.choosing.prepare(self.buffers, members, count)
        words = (
            -(-count // CODES_PER_WORD)
            if isinstance(count, int)
            else let(tir.T.floordiv(count + (CODES_PER_WORD - 1), CODES_PER_WORD))
        )
        return Inputs(words, lambda j: self.source(first, j), count)

    def pad(self, inputs: Inputs, first: Expr) -> None:
        x, scratch, count = self.buffers["x"], self.buffers["scratch"], inputs.weights
        pad_words(
            self.shape, self.tiling, x, scratch, count, inputs.channel, first, int(self.border)
        )

    def scale(self, outputs: tuple[Expr, Expr]) -> None:
        """Multiplies the factors of active outputs by their gates, once for all tiles."""
        if not self.kernel.epilogue.gate:
            return
        with tir.loop(outputs[1]) as i:
            channel = let(self.output(outputs[0] + i))
            factor = self.buffers["factor"][channel] * self.buffers["gate"][channel]
            store(self.buffers["factors"], channel, factor)

    def group(self, inputs: Inputs, outputs: tuple[Expr, Expr]) -> None:
        self.scale(outputs)
        if self.kernel.chooses_once:
            with tir.loop(outputs[1]) as index:
                own = ConvLoops.row(self, outputs, let(outputs[0] + index))
                self.choose(inputs, own, index)
        super().group(inputs, outputs)

    @property
    def weights(self) -> Weights:
        """What is multiplied: the constants, or what has been chosen of them."""
        if not self.kernel.gated_in:
            return Weights(self.buffers["weight"], self.pitch, self.shape.kernel)
        together = self.kernel.together
        return Weights(self.buffers["chosen"], self.choosing.pitch, self.shape.kernel, together)

    def choose(self, inputs: Inputs, output: tuple[Expr, Expr], index: Expr) -> None:
        """Puts the weights of an output, (row, channel), at ``index`` of the chosen ones.

        Its bias goes with them, and undoes the flips of its activations.
        """
        row, channel = output
        taps, chosen = self.kernel.shape.taps, self.weights
        start, into = let(row * (taps * self.pitch)), let(chosen.row(index))
        found = self.choosing.choose(self.buffers, start, self.pitch, inputs.weights, chosen, into)
        store(self.buffers["biases"], index, self.buffers["bias"][channel] + found)

    def choose_tile(self, inputs: Inputs, rows: Rows) -> Rows:
        """Chooses for a tile; returns the same outputs, whose rows are those of what is chosen."""
        # A loop over what lies in memory: the code for one output is long.
        found = tir.local(2 * len(rows), INT32)
        for i, output in enumerate(rows):
            for k in range(2):
                store(found, 2 * i + k, output[k])
        with tir.loop(len(rows)) as i:
            self.choose(inputs, (let(found[2 * i]), let(found[2 * i + 1])), i)
        return [(i, channel) for i, (_, channel) in enumerate(rows)]

    def tiles(self, chunk: Chunk) -> None:
        if not self.kernel.gated_in or self.kernel.chooses_once:
            super().tiles(chunk)
            return

        def block(rows: Rows, _: Expr) -> None:
            chosen = self.choose_tile(chunk.inputs, rows)
            self.vectors(chunk, lambda u, count: self.tile(chunk, chosen, u, count))

        self.blocks(chunk.outputs, block)

    def row(self, outputs: tuple[Expr, Expr], position: Expr) -> tuple[Expr, Expr]:
        row, channel = super().row(outputs, position)
        return (let(position - outputs[0]) if self.kernel.chooses_once else row), channel

    def tile(self, chunk: Chunk, rows: Rows, u: Expr, count: int) -> None:
        lanes, isa = self.tiling.lanes, self.isa
        channels, cell = [channel for _, channel in rows], lanes * isa.partials
        acc = tir.local(len(rows) * count * cell, INT32)
        if isa.partials == 1:
            for i, row in enumerate(rows):
                bias = let(splat(self.bias(row), lanes, INT32))
                for v in range(count):
                    store(acc, (i * count + v) * lanes, bias, lanes)
        else:
            zero(acc, len(rows) * count * cell, cell)
        weights = self.weights
        at = [let(weights.row(row)) for row, _ in rows]
        if weights.together == len(rows):
            at = [let(at[0] + weights.row(i)) for i in range(len(rows))]
        bases = [let(chunk.pixels.vector(u + v)) for v in range(count)]
        dtype = isa.operand(self.dtype)
        words = chunk.inputs.count
        accumulate(isa, acc, at, bases, lanes, words, weights, chunk.pixels, dtype)
        places = [self.place(u + v, chunk.first) for v in range(count)]
        biases = [int32(0) if isa.partials == 1 else self.bias(row) for row in rows]
        self.finish.end(acc, channels, self.shape.pixels, places, lanes, biases)

    def bias(self, output: tuple[Expr, Expr]) -> Expr:
        """What is added to the sums of an output, (row, channel)."""
        name, index = ("biases", output[0]) if self.kernel.gated_in else ("bias", output[1])
        return self.buffers[name][index]

    def inactive(self, start: Expr, constant: Expr | None) -> Callable[[Expr, int], None]:
        y, residual = self.buffers["y"], self.kernel.epilogue.residual

        def move(at: Expr, width: int) -> None:
            value = None if constant is None else splat(constant, width, FLOAT32)
            if residual:
                value = self.finish.added(value, start + at, width)
            store_codes(y, start + at, self.finish.code(value, width), width)

        return move
