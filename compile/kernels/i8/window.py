"""Kernels of int8 that slide a window over one channel: pooling and depthwise convolution.

Both copy a channel's plane with its border once and then work on vectors of output pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headgate.compile.isa.base import DotIsa
from headgate.compile.isa.vector import read_as
from headgate.compile.kernels import tir
from headgate.compile.kernels.conv_loops import Place
from headgate.compile.kernels.convolution import ConvRequest, ConvShape, Epilogue
from headgate.compile.kernels.i8.conv2d import corrected
from headgate.compile.kernels.i8.epilogue import epilogue_parameters
from headgate.compile.kernels.i8.microkernel import Finish, zero
from headgate.compile.kernels.i8.words import (
    BOUNDS,
    CODES_PER_WORD,
    Bounds,
    apart,
    code,
    flip_word,
    wide,
)
from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.lists import list_parameters, visited
from headgate.compile.kernels.packing import clear_border, pad_rows
from headgate.compile.kernels.split import PART, share
from headgate.compile.kernels.tiling import Tiling
from headgate.compile.kernels.tir import Buffer, Expr, int32, let, load, loop, splat, store
from headgate.device.tensor_type import FLOAT32, INT32, TensorType


def _tiling(shape: ConvShape, lanes: int) -> Tiling:
    """One channel at a time, all its rows at once."""
    return Tiling("padded", 1, 1, lanes, shape.out_height, False)


def _single(shape: ConvShape) -> ConvShape:
    return replace(shape, in_channels=1, out_channels=1, groups=1)


def _place(shape: ConvShape, lanes: int, row: Expr, column: int) -> Place:
    real = shape.out_width - column
    offset = row * shape.out_width + column
    if real >= lanes:
        return Place(offset, None, lanes, None)
    return Place(offset, True, real, real)


class _Window:
    """The padded plane of one channel and the vectors of output pixels over it."""

    def __init__(self, shape: ConvShape, lanes: int) -> None:
        self.whole, self.shape, self.lanes = shape, _single(shape), lanes
        self.tiling = _tiling(self.shape, lanes)
        self.pitch = self.tiling.padded_pitch(self.shape)

    def scratch(self, dtype: str, overrun: int) -> dict[str, TensorType]:
        """One padded plane, and what a vector may read behind it."""
        size = self.tiling.padded_size(self.shape) + overrun
        return {"scratch": TensorType((size,), dtype)}

    def clear(self, scratch: Buffer, border: int) -> None:
        """Sets what lies left and right of the rows."""
        clear_border(self.shape, self.tiling, scratch, 1, border)

    def fill(self, x: Buffer, scratch: Buffer, channel: Expr, border: int) -> None:
        """Copies the plane of a channel."""
        pad_rows(self.shape, self.tiling, x, scratch, 1, lambda _: channel, 0, border)

    def vectors(self, body: Callable[[Expr, Place], None]) -> None:
        """``body(start, place)`` for each vector: where its first tap lies, where it goes."""
        shape = self.shape
        with loop(shape.out_height) as row:
            for column in range(0, shape.out_width, self.lanes):
                start = row * (shape.stride[0] * self.pitch) + column * shape.stride[1]
                body(let(start), _place(shape, self.lanes, row, column))


@dataclass(frozen=True)
class Pool(Kernel):
    """Max or average pooling; inactive channels of a gated input are neither read nor written.

    ``shape`` has as many groups as channels. The average counts the border.
    """

    isa: DotIsa
    shape: ConvShape
    kind: str
    lanes: int
    gated: bool
    dtypes: tuple[str, str]
    """Of the input and the result."""
    clamp: Bounds

    @classmethod
    def of(cls, isa: DotIsa, *_: Any, shape: ConvShape, **asked: Any) -> Pool:
        return cls(isa, shape=shape, lanes=isa.lanes_within(shape.out_width), **asked)

    def parameters(self) -> list[Parameter]:
        lists = list_parameters("in") if self.gated else []
        x, y = self.dtypes
        own = [("x", x), ("factor", FLOAT32), ("y", y), ("scratch", x)]
        return [*own, *lists, PART]

    def scratch(self) -> dict[str, TensorType]:
        return _Window(self.shape, self.lanes).scratch(self.dtypes[0], 0)

    def constants(self, attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {"factor": np.array([attributes.get("factor", 1.0)], np.float32)}

    def _body(
        self,
        x: Buffer,
        factor: Buffer,
        y: Buffer,
        scratch: Buffer,
        part: Buffer,
        **lists: Buffer,
    ) -> None:
        window, lanes, shape = _Window(self.shape, self.lanes), self.lanes, self.shape
        largest = self.kind == "max"
        border = BOUNDS[self.dtypes[0]][0] if largest else 0
        window.clear(scratch, border)
        count, nth = visited(shape.in_channels, *lists.values())
        first, end = share(count, 1, part)
        taps = [
            r * shape.dilation[0] * window.pitch + s * shape.dilation[1]
            for r in range(shape.kernel[0])
            for s in range(shape.kernel[1])
        ]
        with loop(end - first) as index:
            j = first + index
            channel = let(nth(j))
            window.fill(x, scratch, channel, border)

            def one(start: Expr, place: Place, channel: Expr = channel) -> None:
                read = [load(scratch, start + tap, lanes, shape.stride[1]) for tap in taps]
                value = read[0] if largest else wide(read[0], lanes, INT32)
                for other in read[1:]:
                    if largest:
                        value = tir.maximum(value, other)
                    else:
                        value = value + wide(other, lanes, INT32)
                if largest:
                    low, high = (splat(int(b), lanes, self.dtypes[1]) for b in self.clamp)
                    value = tir.minimum(tir.maximum(value, low), high)
                else:
                    mean = apart(
                        wide(value, lanes, FLOAT32) * splat(factor[0], lanes, FLOAT32), lanes
                    )
                    value = wide(code(self.isa, mean, self.clamp, lanes), lanes, self.dtypes[1])
                into = let(channel * shape.pixels + place.offset)
                tir.store_part(y, into, let(value), lanes, min(place.valid, lanes))

            window.vectors(one)


@dataclass(frozen=True)
class Depthwise(Kernel):
    """A convolution with one group for each channel, of which only active outputs are visited.

    Four neighbours of a row of taps make a word for each pixel.
    """

    isa: DotIsa
    shape: ConvShape
    lanes: int
    epilogue: Epilogue
    dtypes: tuple[str, ...]
    """Of the input, of the residual where there is one, and of the result."""

    @classmethod
    def of(cls, isa: DotIsa, *_: Any, request: ConvRequest, dtypes: tuple[str, ...]) -> Depthwise:
        lanes = isa.lanes_within(request.shape.out_width)
        return cls(isa, request.shape, lanes, request.epilogue, dtypes)

    def parameters(self) -> list[Parameter]:
        x, *_, y = self.dtypes
        found = [("x", x), ("weight", INT32), ("bias", INT32), ("factor", FLOAT32), ("y", y)]
        found += epilogue_parameters(self.epilogue, self.dtypes)
        lists = list_parameters("out") if self.epilogue.gate else []
        return [*found, ("scratch", x), *lists, PART]

    def scratch(self) -> dict[str, TensorType]:
        return _Window(self.shape, self.lanes).scratch(self.dtypes[0], self._read)

    @property
    def _columns(self) -> int:
        """Words of a row of taps."""
        return -(-self.shape.kernel[1] // CODES_PER_WORD)

    @property
    def _read(self) -> int:
        """Numbers that are read for the words of a vector: a power of two."""
        across, apart_ = self.shape.stride[1], self.shape.dilation[1]
        needed = (self.lanes - 1) * across + (CODES_PER_WORD - 1) * apart_ + 1
        return 1 << (needed - 1).bit_length()

    def constants(self, attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The kernel's constant arguments from those of its node."""
        weight, bias = attributes["weight"], attributes["bias"]
        outputs, _, height, width = weight.shape
        padded = np.pad(weight, ((0, 0), (0, 0), (0, 0), (0, -width % CODES_PER_WORD)))
        words = np.ascontiguousarray(padded).view(np.int32)
        found = {
            "weight": words.reshape(outputs, height * self._columns),
            "bias": corrected(self.isa, self.dtypes[0], weight, bias),
            "factor": attributes["factor"],
        }
        if self.epilogue.residual:
            found["residual_factor"] = np.array([attributes["residual_factor"]], np.float32)
        return found

    def _body(self, **buffers: Buffer) -> None:
        window, lanes, isa = _Window(self.shape, self.lanes), self.lanes, self.isa
        shape, dtype = self.shape, self.dtypes[0]
        finish = Finish.of(isa, self.epilogue, self.dtypes, buffers)
        scratch, weight = buffers["scratch"], buffers["weight"]
        window.clear(scratch, 0)
        per_input = shape.out_channels // shape.in_channels
        lists = [buffers[name] for name, _ in list_parameters("out") if self.epilogue.gate]
        count, nth = visited(shape.out_channels, *lists)
        first, end = share(count, 1, buffers["part"])
        cell, rows = lanes * isa.partials, shape.kernel[0]
        with loop(end - first) as index:
            j = first + index
            channel = let(nth(j))
            window.fill(buffers["x"], scratch, let(tir.T.floordiv(channel, per_input)), 0)

            def one(start: Expr, place: Place, channel: Expr = channel) -> None:
                acc = tir.local(cell, INT32)
                zero(acc, cell, cell)
                pairs = []
                for r in range(rows):
                    for s in range(self._columns):
                        tap = r * shape.dilation[0] * window.pitch
                        tap += s * CODES_PER_WORD * shape.dilation[1]
                        own = weight[channel * (rows * self._columns) + r * self._columns + s]
                        words = let(self._words(scratch, start + tap))
                        pairs.append((words, splat(own, lanes, INT32)))
                total = isa.dot(load(acc, 0, cell), pairs, lanes, isa.operand(dtype))
                store(acc, 0, total, cell)
                finish.end(acc, [channel], shape.pixels, [place], lanes)

            window.vectors(one)

    def _words(self, scratch: Buffer, at: Expr) -> Expr:
        """For each pixel of a vector four neighbours from ``at`` on."""
        dtype, (_, across), (_, apart_) = self.dtypes[0], self.shape.stride, self.shape.dilation
        places = [
            int32(lane * across + q * apart_)
            for lane in range(self.lanes)
            for q in range(CODES_PER_WORD)
        ]
        read = load(scratch, at, self._read)
        # A shuffle has no more results than operands; what is named twice costs nothing.
        operands = [read] * -(-len(places) // self._read)
        words = read_as(INT32, self.lanes, tir.T.Shuffle(operands, places))
        flip = flip_word(self.isa, dtype)
        return words ^ splat(flip, self.lanes, INT32) if flip else words
