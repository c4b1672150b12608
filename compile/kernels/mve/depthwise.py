"""A depthwise convolution by Helium: four results side by side meet one tap after another.

A channel's plane is copied with its border; a gap between two rows is the border of both. The taps
of a row of results are loaded widened to 32 bits and multiplied with a weight in a register. Sums
are kept, and are finished four pixels at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from tvm import tirx

from headgate.compile.isa.base import DotIsa
from headgate.compile.isa.mve import BYTES, hidden, rows_of_tiles, take
from headgate.compile.kernels import tir
from headgate.compile.kernels.convolution import ConvRequest, ConvShape, Epilogue
from headgate.compile.kernels.i8 import window
from headgate.compile.kernels.i8.epilogue import epilogue_parameters
from headgate.compile.kernels.i8.words import apart as fenced
from headgate.compile.kernels.i8.words import wide
from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.lists import list_parameters, visited
from headgate.compile.kernels.mve import layout
from headgate.compile.kernels.mve.finish import LANES, Finish
from headgate.compile.kernels.smlad.words import quotient
from headgate.compile.kernels.tir import Buffer, Expr, int32, let, load, loop, splat, store
from headgate.device.tensor_type import FLOAT32, INT8, INT32, TensorType

MOST_VECTORS = 4
"""Vectors of a tile, whose sums are kept in registers."""
MAX_UNROLLED_TAPS = 25
"""With more, the rows of the kernel become a loop."""
_TILE = 6
"""Instructions of a tile beside those of its taps."""


@dataclass(frozen=True)
class Depthwise(Kernel):
    """A convolution with one group for each input, of which only active outputs are visited."""

    shape: ConvShape
    epilogue: Epilogue
    dtypes: tuple[str, ...]
    """Of the input, of the residual where there is one, and of the result."""
    chunk: int
    """Rows of results that are computed from one copy."""

    @classmethod
    def of(cls, isa: DotIsa, *_: Any, request: ConvRequest, dtypes: tuple[str, ...]) -> Kernel:
        """This kernel, or that of any instructions where outputs are placed among others."""
        if request.clamp_inactive or request.placed:
            return window.Depthwise.of(isa, request=request, dtypes=dtypes)
        shape = request.shape

        def fits(rows: int) -> bool:
            copied = _rows(shape, rows) * _pitch(shape)
            few = rows * shape.out_width <= layout.MOST_PIXELS
            return few and copied <= layout.MOST_PACKED_BYTES

        most = max((n for n in range(1, shape.out_height + 1) if fits(n)), default=1)
        chunk = -(-shape.out_height // -(-shape.out_height // most))
        return cls(shape, request.epilogue, dtypes, chunk)

    @cached_property
    def vectors(self) -> int:
        """Of a tile: as many as make a row of results cheapest."""
        row = -(-self.shape.out_width // LANES)
        tap = 2 if self.shape.stride[1] == 1 else 3

        def cost(count: int) -> int:
            return -(-row // count) * (self.shape.taps * (1 + tap * count) + _TILE)

        return min(range(1, MOST_VECTORS + 1), key=cost)

    @property
    def tiles(self) -> int:
        """Of a row of results; the last one may end behind it."""
        return -(-self.shape.out_width // (self.vectors * LANES))

    def parameters(self) -> list[Parameter]:
        x, *_, y = self.dtypes
        found = [("x", x), ("weight", INT8), ("bias", INT32), ("factor", FLOAT32), ("y", y)]
        found += epilogue_parameters(self.epilogue, self.dtypes)
        found += [(name, tensor.dtype) for name, tensor in self.scratch().items()]
        return [*found, *(list_parameters("out") if self.epilogue.gate else [])]

    def scratch(self) -> dict[str, TensorType]:
        shape, past = self.shape, self.tiles * self.vectors * LANES
        copied = _rows(shape, self.chunk) * _pitch(shape) + past * shape.stride[1]
        # Vectors end behind the copy; so does the last row's last tile.
        taps = shape.kernel[1] * shape.dilation[1]
        return {
            "packed": TensorType((copied + taps + sum(shape.padding) + 2 * BYTES,), self.dtypes[0]),
            "sums": TensorType((self.chunk * shape.out_width + past,), INT32),
        }

    def constants(self, attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The kernel's constant arguments from those of its node."""
        weight = attributes["weight"]
        found = {
            "weight": weight.reshape(len(weight), -1),
            "bias": attributes["bias"],
            "factor": attributes["factor"],
        }
        if self.epilogue.residual:
            found["residual_factor"] = np.array([attributes["residual_factor"]], np.float32)
        return found

    def _body(self, **buffers: Buffer) -> None:
        shape = self.shape
        finish = Finish.of(self.epilogue, self.dtypes, buffers)
        lists = [buffers[name] for name, _ in list_parameters("out") if self.epilogue.gate]
        per_input = shape.out_channels // shape.in_channels
        with rows_of_tiles([]):
            count, nth = visited(shape.out_channels, *lists)
            with loop(hidden(count)) as j:
                channel = let(nth(j))
                source = let(quotient(channel, per_input) * (shape.height * shape.width))
                scale, shift = buffers["factor"][channel], None
                if self.epilogue.gate:
                    scale = scale * buffers["gate"][channel]
                    shift = let(buffers["shift"][channel])
                scale = let(scale)
                with loop(-(-shape.out_height // self.chunk)) as index:
                    first = let(index * self.chunk)
                    size = let(tir.minimum(shape.out_height - first, int32(self.chunk)))
                    self._copy(buffers["x"], buffers["packed"], source, first)
                    self._rows(buffers, channel, size)
                    into = let((channel * shape.out_height + first) * shape.out_width)
                    done = let(size * shape.out_width)
                    finish.end(buffers["sums"], 0, into, done, scale, shift)

    # The copy

    def _copy(self, x: Buffer, packed: Buffer, plane: Expr, first: Expr) -> None:
        """The rows that a chunk from row ``first`` on needs, with their border."""
        shape, pitch, rows = self.shape, _pitch(self.shape), _rows(self.shape, self.chunk)
        over, left, *_ = shape.padding
        # Behind a fence they are no constant, of which LLVM would make a call of memset.
        zeros = _fenced(splat(0, BYTES, x.dtype), x.dtype)

        def clear(start: Expr, size: Expr) -> None:
            with loop(hidden(quotient(size + (BYTES - 1), BYTES))) as i:
                store(packed, start + i * BYTES, zeros, BYTES)

        top = let(first * shape.stride[0] - over)
        begin = let(tir.minimum(tir.maximum(int32(0) - top, 0), rows))
        end = let(tir.maximum(tir.minimum(shape.height - top, rows), begin))
        if over or left:
            clear(0, let(begin * pitch + left))
        vectors, gap = -(-shape.width // BYTES), pitch - shape.width
        with loop(hidden(end - begin)) as i:
            row = let(begin + i)
            start = let(plane + (top + row) * shape.width)
            into = let(row * pitch + left)
            with loop(vectors if vectors == 1 else hidden(vectors)) as k:
                own = _fenced(load(x, start + k * BYTES, BYTES), x.dtype)
                store(packed, into + k * BYTES, own, BYTES)
            for at in range(0, gap, BYTES):
                store(packed, into + (shape.width + at), zeros, BYTES)
        if over or shape.padding[2]:
            clear(let(end * pitch + left), let((rows - end) * pitch))

    # The sums

    def _rows(self, buffers: dict[str, Buffer], channel: Expr, size: Expr) -> None:
        """The sums of the first ``size`` rows of a chunk.

        What is behind the end of a row is overwritten by the next one.
        """
        shape, step = self.shape, self.vectors * LANES
        taps = shape.taps
        weight, unrolled = buffers["weight"], taps <= MAX_UNROLLED_TAPS
        first = let(channel * taps)
        bias = let(buffers["bias"][channel])
        own = [let(wide(weight[first + i], 1, INT32)) for i in range(taps)] if unrolled else []
        acc = tir.local(step, INT32)
        with loop(hidden(size)) as y:
            row, sums = let(y * (shape.stride[0] * _pitch(shape))), let(y * shape.out_width)
            with loop(self.tiles if self.tiles == 1 else hidden(self.tiles)) as u:
                start = let(row + u * (step * shape.stride[1]))
                for v in range(self.vectors):
                    store(acc, v * LANES, splat(bias, LANES, INT32), LANES)
                with loop(1 if unrolled else shape.kernel[0]) as r0:
                    for r in range(shape.kernel[0] if unrolled else 1):
                        for s in range(shape.kernel[1]):
                            tap = (r0 + r) * shape.kernel[1] + s
                            value = own[tap] if unrolled else wide(weight[first + tap], 1, INT32)
                            place = (r0 + r) * (shape.dilation[0] * _pitch(shape))
                            at = start + (place + s * shape.dilation[1])
                            self._tap(acc, buffers["packed"], at, let(value))
                for v in range(self.vectors):
                    place = sums + (u * step + v * LANES)
                    store(buffers["sums"], place, load(acc, v * LANES, LANES), LANES)

    def _tap(self, acc: Buffer, packed: Buffer, at: Expr, weight: Expr) -> None:
        """Adds one tap of each result of a tile."""
        across = self.shape.stride[1]
        for v in range(self.vectors):
            here = at + v * LANES * across
            if across == 1:
                value = wide(load(packed, here, LANES), LANES, INT32)
            else:
                ramp = tirx.Cast(f"uint32x{LANES}", tirx.Ramp(int32(0), int32(across), LANES))
                value = take(packed, here, let(ramp), LANES, INT32)
            total = load(acc, v * LANES, LANES) + value * splat(weight, LANES, INT32)
            store(acc, v * LANES, total, LANES)


def _pitch(shape: ConvShape) -> int:
    """From one row of the copy to the next."""
    return shape.width + max(shape.padding[1], shape.padding[3])


def _rows(shape: ConvShape, chunk: int) -> int:
    """Rows of the copy that ``chunk`` rows of results need."""
    return (chunk - 1) * shape.stride[0] + (shape.kernel[0] - 1) * shape.dilation[0] + 1


def _fenced(value: Expr, dtype: str) -> Expr:
    """The same vector of codes, of which LLVM knows nothing."""
    floats = tirx.reinterpret(f"{FLOAT32}x4", value)
    return let(tirx.reinterpret(f"{dtype}x{BYTES}", fenced(floats, 4)))
