"""Kernels that slide a window over one channel: pooling and depthwise convolution.

Both copy a channel's plane with its border once and then work on vectors of output pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tvm.tirx import PrimFunc

from headgate.compile.kernels import tir
from headgate.compile.kernels.microkernel import Epilogue, Finish, Place
from headgate.compile.kernels.packing import clear_border, pad_rows
from headgate.compile.kernels.split import PART, share
from headgate.compile.kernels.tiling import ConvShape, Tiling
from headgate.compile.kernels.tir import Buffer, Expr, let, load, local, loop, splat, store
from headgate.device.targets import Target

LOWEST = -math.inf


def _tiling(shape: ConvShape, lanes: int) -> Tiling:
    """One channel at a time, all its rows at once."""
    return Tiling("padded", 1, 1, lanes, shape.out_height, False)


def window_lanes(shape: ConvShape, target: Target) -> int:
    """The widest vector that an output row fills, or the narrowest there is."""
    widths = sorted({*target.vector_fma_cycles, 4}, reverse=True)
    return next((n for n in widths if n <= shape.out_width), widths[-1])


def scratch_bytes(shape: ConvShape, lanes: int) -> int:
    """Scratch for one padded plane."""
    single = replace(shape, in_channels=1, out_channels=1, groups=1)
    return 4 * _tiling(single, lanes).padded_size(single)


def _place(shape: ConvShape, lanes: int, row: Expr, column: int) -> Place:
    real = shape.out_width - column
    offset = row * shape.out_width + column
    if real >= lanes:
        return Place(offset, None, lanes, None)
    return Place(offset, True, real, real)


@dataclass(frozen=True)
class Pool:
    """Max or average pooling; inactive channels of a gated input are neither read nor written.

    ``shape`` has as many groups as channels. The average counts the border.
    """

    shape: ConvShape
    kind: str
    lanes: int
    gated: bool
    clamp: tuple[float | None, float | None] = (None, None)

    def parameters(self) -> list[tuple[str, str]]:
        lists = [("in_list", "int32"), ("in_count", "int32")] if self.gated else []
        return [("x", "float32"), ("y", "float32"), ("scratch", "float32"), *lists, PART]

    def build(self, name: str) -> PrimFunc:
        return tir.prim_func(name, self.parameters(), self._body)

    def _body(self, x: Buffer, y: Buffer, scratch: Buffer, *lists: Buffer) -> None:
        shape = replace(self.shape, in_channels=1, out_channels=1, groups=1)
        tiling, lanes = _tiling(shape, self.lanes), self.lanes
        pitch = tiling.padded_pitch(shape)
        largest = self.kind == "max"
        border = LOWEST if largest else 0.0
        clear_border(shape, tiling, scratch, 1, border)
        count = let(lists[1][0]) if self.gated else self.shape.in_channels
        first, end = share(count, 1, lists[-1])
        with loop(end - first) as index:
            j = first + index
            channel = let(lists[0][j] if self.gated else j)
            pad_rows(shape, tiling, x, scratch, 1, lambda _: channel, 0, border)
            with loop(shape.out_height) as row:
                for column in range(0, shape.out_width, lanes):
                    start = let(row * (shape.stride[0] * pitch) + column * shape.stride[1])
                    value = None
                    for r in range(shape.kernel[0]):
                        for s in range(shape.kernel[1]):
                            tap = r * shape.dilation[0] * pitch + s * shape.dilation[1]
                            here = load(scratch, start + tap, lanes, shape.stride[1])
                            if value is None:
                                value = here
                            else:
                                value = tir.maximum(value, here) if largest else value + here
                    if not largest:
                        value = value * splat(1.0 / shape.taps, lanes)
                    value = let(Epilogue(clamp=self.clamp).clamped(value, lanes))
                    place = _place(shape, lanes, row, column)
                    into = channel * shape.pixels + place.offset
                    tir.store_part(y, let(into), value, lanes, min(place.valid, lanes))


@dataclass(frozen=True)
class Depthwise:
    """A convolution with one group for each channel, of which only active outputs are visited."""

    shape: ConvShape
    lanes: int
    epilogue: Epilogue

    def parameters(self) -> list[tuple[str, str]]:
        names = ["x", "weight", "bias", "y"]
        names += ["gate", "shift"] if self.epilogue.gate else []
        names += ["residual"] if self.epilogue.residual == "separate" else []
        names += ["scratch"]
        lists = ["out_list", "out_count"] if self.epilogue.gate else []
        return [(n, "float32") for n in names] + [(n, "int32") for n in lists] + [PART]

    def build(self, name: str) -> PrimFunc:
        names = [key for key, _ in self.parameters()]
        return tir.prim_func(
            name, self.parameters(), lambda *b: self._body(dict(zip(names, b, strict=True)))
        )

    def _body(self, buffers: dict[str, Buffer]) -> None:
        shape = replace(self.shape, in_channels=1, out_channels=1, groups=1)
        tiling, lanes = _tiling(shape, self.lanes), self.lanes
        pitch = tiling.padded_pitch(shape)
        finish = Finish(
            self.epilogue,
            buffers["y"],
            buffers["bias"],
            buffers.get("gate"),
            buffers.get("shift"),
            buffers.get("residual"),
        )
        scratch, weight = buffers["scratch"], buffers["weight"]
        clear_border(shape, tiling, scratch, 1)
        gated = self.epilogue.gate
        per_input = self.shape.out_channels // self.shape.in_channels
        count = let(buffers["out_count"][0]) if gated else self.shape.out_channels
        first, end = share(count, 1, buffers["part"])
        with loop(end - first) as index:
            j = first + index
            channel = let(buffers["out_list"][j] if gated else j)
            source = tir.T.floordiv(channel, per_input)
            pad_rows(shape, tiling, buffers["x"], scratch, 1, lambda _: source, 0)
            with loop(shape.out_height) as row:
                for column in range(0, shape.out_width, lanes):
                    acc = local(lanes)
                    finish.start(acc, [channel], 1, lanes)
                    start = let(row * (shape.stride[0] * pitch) + column * shape.stride[1])
                    for r in range(shape.kernel[0]):
                        for s in range(shape.kernel[1]):
                            tap = r * shape.dilation[0] * pitch + s * shape.dilation[1]
                            factor = weight[channel * shape.taps + r * shape.kernel[1] + s]
                            pixels = load(scratch, start + tap, lanes, shape.stride[1])
                            total = load(acc, 0, lanes) + splat(factor, lanes) * pixels
                            store(acc, 0, total, lanes)
                    place = _place(shape, lanes, row, column)
                    finish.end(acc, [channel], shape.pixels, [place], lanes)
