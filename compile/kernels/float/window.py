"""Kernels that slide a window over one channel: pooling and depthwise convolution.

Both copy a channel's plane with its border once and then work on vectors of output pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headgate.compile.isa import Isa
from headgate.compile.kernels import tir
from headgate.compile.kernels.conv_loops import Place
from headgate.compile.kernels.convolution import Clamp, ConvRequest, ConvShape, Epilogue
from headgate.compile.kernels.float.microkernel import Finish
from headgate.compile.kernels.float.words import (
    SAME,
    Dtypes,
    clamped,
    floats,
    narrow,
    splat,
    tensor,
    wide,
)
from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.lists import list_parameters, visited
from headgate.compile.kernels.packing import clear_border, pad_rows
from headgate.compile.kernels.split import PART, share
from headgate.compile.kernels.tiling import Tiling
from headgate.compile.kernels.tir import Buffer, Expr, let, load, loop, store
from headgate.device.tensor_type import FLOAT32, TensorType

LOWEST = -math.inf


def _tiling(shape: ConvShape, lanes: int) -> Tiling:
    """One channel at a time, all its rows at once."""
    return Tiling("padded", 1, 1, lanes, shape.out_height, False)


def _single(shape: ConvShape) -> ConvShape:
    return replace(shape, in_channels=1, out_channels=1, groups=1)


def _scratch(shape: ConvShape, lanes: int, dtype: str) -> dict[str, TensorType]:
    """One padded plane."""
    single = _single(shape)
    return {"scratch": tensor(_tiling(single, lanes).padded_size(single), dtype=dtype)}


def _place(shape: ConvShape, lanes: int, row: Expr, column: int) -> Place:
    real = shape.out_width - column
    offset = row * shape.out_width + column
    if real >= lanes:
        return Place(offset, None, lanes, None)
    return Place(offset, True, real, real)


@dataclass(frozen=True)
class Pool(Kernel):
    """Max or average pooling; inactive channels of a gated input are neither read nor written.

    ``shape`` has as many groups as channels. The average counts the border.
    """

    shape: ConvShape
    kind: str
    lanes: int
    gated: bool
    clamp: Clamp = (None, None)
    dtypes: Dtypes = SAME

    @classmethod
    def of(cls, isa: Isa, *, shape: ConvShape, **asked: Any) -> Pool:
        return cls(shape=shape, lanes=isa.lanes_within(shape.out_width), **asked)

    def parameters(self) -> list[Parameter]:
        lists = list_parameters("in") if self.gated else []
        return [*floats("x", "y", "scratch", dtypes=self.dtypes), *lists, PART]

    def scratch(self) -> dict[str, TensorType]:
        return _scratch(self.shape, self.lanes, self.dtypes[0])

    def _body(self, x: Buffer, y: Buffer, scratch: Buffer, part: Buffer, **lists: Buffer) -> None:
        shape = _single(self.shape)
        tiling, lanes = _tiling(shape, self.lanes), self.lanes
        pitch = tiling.padded_pitch(shape)
        largest = self.kind == "max"
        border = LOWEST if largest else 0.0
        clear_border(shape, tiling, scratch, 1, border)
        count, nth = visited(self.shape.in_channels, *lists.values())
        first, end = share(count, 1, part)
        with loop(end - first) as index:
            j = first + index
            channel = let(nth(j))
            pad_rows(shape, tiling, x, scratch, 1, lambda _: channel, 0, border)
            with loop(shape.out_height) as row:
                for column in range(0, shape.out_width, lanes):
                    start = let(row * (shape.stride[0] * pitch) + column * shape.stride[1])
                    value = None
                    for r in range(shape.kernel[0]):
                        for s in range(shape.kernel[1]):
                            tap = r * shape.dilation[0] * pitch + s * shape.dilation[1]
                            here = load(scratch, start + tap, lanes, shape.stride[1])
                            here = here if largest else wide(here, lanes, x.dtype)
                            if value is None:
                                value = here
                            else:
                                value = tir.maximum(value, here) if largest else value + here
                    if not largest:
                        value = value * splat(1.0 / shape.taps, lanes)
                    within = y.dtype if largest else FLOAT32
                    value = clamped(value, self.clamp, lanes, within)
                    value = let(value if largest else narrow(value, lanes, y.dtype))
                    place = _place(shape, lanes, row, column)
                    into = channel * shape.pixels + place.offset
                    tir.store_part(y, let(into), value, lanes, min(place.valid, lanes))


@dataclass(frozen=True)
class Depthwise(Kernel):
    """A convolution with one group for each channel, of which only active outputs are visited."""

    shape: ConvShape
    lanes: int
    epilogue: Epilogue
    dtypes: Dtypes = SAME

    @classmethod
    def of(cls, isa: Isa, *, request: ConvRequest, dtypes: Dtypes = SAME) -> Depthwise:
        lanes = isa.lanes_within(request.shape.out_width)
        return cls(request.shape, lanes, request.epilogue, dtypes)

    def parameters(self) -> list[Parameter]:
        names = ["x", "weight", "bias", "y"]
        names += ["gate", "shift"] if self.epilogue.gate else []
        names += ["residual"] if self.epilogue.residual == "separate" else []
        lists = list_parameters("out") if self.epilogue.gate else []
        return [*floats(*names, "scratch", dtypes=self.dtypes), *lists, PART]

    def scratch(self) -> dict[str, TensorType]:
        return _scratch(self.shape, self.lanes, self.dtypes[0])

    def constants(self, attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
        weight = attributes["weight"].astype(self.dtypes[0], copy=False)
        return {"weight": weight, "bias": attributes["bias"]}

    def _body(self, **buffers: Buffer) -> None:
        shape = _single(self.shape)
        tiling, lanes = _tiling(shape, self.lanes), self.lanes
        pitch = tiling.padded_pitch(shape)
        finish = Finish.of(self.epilogue, buffers)
        scratch, weight = buffers["scratch"], buffers["weight"]
        clear_border(shape, tiling, scratch, 1)
        per_input = self.shape.out_channels // self.shape.in_channels
        lists = [buffers[name] for name, _ in list_parameters("out") if self.epilogue.gate]
        count, nth = visited(self.shape.out_channels, *lists)
        first, end = share(count, 1, buffers["part"])
        with loop(end - first) as index:
            j = first + index
            channel = let(nth(j))
            source = tir.T.floordiv(channel, per_input)
            pad_rows(shape, tiling, buffers["x"], scratch, 1, lambda _: source, 0)
            with loop(shape.out_height) as row:
                for column in range(0, shape.out_width, lanes):
                    acc = tir.local(lanes, weight.dtype)
                    finish.start(acc, [channel], 1, lanes)
                    start = let(row * (shape.stride[0] * pitch) + column * shape.stride[1])
                    for r in range(shape.kernel[0]):
                        for s in range(shape.kernel[1]):
                            tap = r * shape.dilation[0] * pitch + s * shape.dilation[1]
                            factor = weight[channel * shape.taps + r * shape.kernel[1] + s]
                            pixels = load(scratch, start + tap, lanes, shape.stride[1])
                            total = (
                                load(acc, 0, lanes)
                                + tir.splat(factor, lanes, weight.dtype) * pixels
                            )
                            store(acc, 0, total, lanes)
                    place = _place(shape, lanes, row, column)
                    finish.end(acc, [channel], shape.pixels, [place], lanes)
