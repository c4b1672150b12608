"""The register tile: multiply and accumulate, finish, store.

One tile is some output channels (rows) x a few vectors of pixels. For each active input channel
and tap it loads the vectors of pixels once and multiplies each with one weight of every row.

Products of float16 are summed in float16, but no more than ``HALF_PRODUCTS`` of them in a row:
those sums are added up in float32, in which everything else is computed, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from headgate.compile.kernels import tir
from headgate.compile.kernels.conv_loops import Pixels, Place, masked, store_vector
from headgate.compile.kernels.convolution import Epilogue
from headgate.compile.kernels.float.words import clamped, read, splat, write
from headgate.compile.kernels.tir import Buffer, Expr, element, let, load, loop, store
from headgate.device.tensor_type import FLOAT32

MAX_UNROLLED_TAPS = 25
"""With more, the rows of the kernel become a loop: a 7x7 tile would overflow the first cache."""

HALF_PRODUCTS = 288
"""Sums of so many products in float16 are off by about 0.25 % of their size; of 4,608, by 1 %."""


@dataclass(frozen=True)
class Weights:
    """Rows of weights ``[output][input][tap]``; ``column(j)`` is where input ``j`` starts.

    ``contiguous``: the inputs follow each other, so a load may run from one into the next.
    """

    buffer: Buffer
    column: Callable[[Expr], Expr]
    kernel: tuple[int, int]
    contiguous: bool
    lanes: int
    inputs: int
    """The most there are."""

    @property
    def together(self) -> int:
        """Inputs whose products are summed before those sums are added up in float32."""
        if self.buffer.dtype == FLOAT32:
            return self.inputs
        return min(self.inputs, max(4, HALF_PRODUCTS // math.prod(self.kernel) // 4 * 4))

    def sums(self, size: int) -> Buffer:
        """Where all products of a tile are summed: in their own dtype if one sum is enough."""
        one = self.together == self.inputs
        return tir.local(size, self.buffer.dtype if one else FLOAT32)


def accumulate(
    acc: Buffer,
    rows: list[Expr],
    bases: list[Expr],
    lanes: int,
    inputs: Expr,
    weights: Weights,
    pixels: Pixels,
) -> None:
    """``acc[row][vector] += weight * pixels`` over the active inputs and all taps.

    ``rows`` are the offsets of the rows of weights, ``bases`` those of the vectors of pixels.
    """
    dtype = weights.buffer.dtype
    if acc.dtype == dtype:
        _multiply(acc, rows, bases, lanes, (0, inputs), weights, pixels)
        return
    each, cells = weights.together, range(0, len(rows) * len(bases) * lanes, lanes)
    with loop(tir.T.floordiv(inputs + (each - 1), each)) as block:
        first = let(block * each)
        part = tir.local(len(cells) * lanes, dtype)
        clear(part, cells, lanes)
        some = let(tir.minimum(inputs - first, each))
        _multiply(part, rows, bases, lanes, (first, some), weights, pixels)
        for cell in cells:
            store(acc, cell, load(acc, cell, lanes) + read(part, cell, lanes), lanes)


def clear(acc: Buffer, cells: Iterable[int], lanes: int) -> None:
    """Zeros in some vectors."""
    for cell in cells:
        store(acc, cell, tir.splat(0, lanes, acc.dtype), lanes)


def _multiply(
    acc: Buffer,
    rows: list[Expr],
    bases: list[Expr],
    lanes: int,
    inputs: tuple[Expr, Expr],
    weights: Weights,
    pixels: Pixels,
) -> None:
    """Of ``inputs`` (first, length), in the dtype of the weights."""
    dtype = weights.buffer.dtype

    def taps(steps: list[tuple[Expr, Expr]]) -> None:
        done = 0
        while done < len(steps):
            group = weights.lanes if len(steps) - done >= weights.lanes else 1
            loaded = [let(load(weights.buffer, row + steps[done][0], group)) for row in rows]
            for q, (_, at) in enumerate(steps[done : done + group]):
                vectors = [let(load(pixels.buffer, base + at, lanes)) for base in bases]
                for i, weight in enumerate(loaded):
                    scalar = tir.splat(element(weight, q) if group > 1 else weight, lanes, dtype)
                    for v, vector in enumerate(vectors):
                        cell = (i * len(bases) + v) * lanes
                        total = load(acc, cell, lanes) + scalar * vector
                        store(acc, cell, total, lanes)
            done += group

    (first, count), (height, width) = inputs, weights.kernel
    if height * width == 1 and weights.contiguous and weights.inputs % 4 == 0:
        # No taps to unroll: four inputs at a time instead, whose weights are neighbours.
        with loop(count // 4 if isinstance(count, int) else tir.T.floordiv(count, 4)) as block:
            at = first + block * 4
            column = let(weights.column(at))
            taps([(column + q, pixels.plane(at + q)) for q in range(4)])
        return
    with loop(count) as j:
        column, plane = let(weights.column(first + j)), let(pixels.plane(first + j))
        whole = height * width <= MAX_UNROLLED_TAPS
        with loop(1 if whole else height) as r0:
            taps(
                [
                    (column + (r0 + r) * width + s, plane + pixels.tap(r0 + r, s))
                    for r in range(height if whole else 1)
                    for s in range(width)
                ]
            )


@dataclass(frozen=True)
class Finish:
    """The buffers an epilogue reads and writes; those it does not use are None."""

    epilogue: Epilogue
    result: Buffer
    bias: Buffer
    gate: Buffer | None = None
    shift: Buffer | None = None
    residual: Buffer | None = None
    sums: Buffer | None = None

    @classmethod
    def of(cls, epilogue: Epilogue, buffers: dict[str, Buffer]) -> Finish:
        """Among a kernel's arguments by name."""
        extra = ("gate", "shift", "residual", "sums")
        return cls(epilogue, buffers["y"], buffers["bias"], *map(buffers.get, extra))

    def start(self, acc: Buffer, channels: list[Expr], vectors: int, lanes: int) -> None:
        """Sums begin at the bias; to those of float16 it is added in the end, in float32."""
        if acc.dtype != FLOAT32:
            clear(acc, range(0, len(channels) * vectors * lanes, lanes), lanes)
            return
        for i, channel in enumerate(channels):
            bias = let(splat(self.bias[channel], lanes))
            for v in range(vectors):
                store(acc, (i * vectors + v) * lanes, bias, lanes)

    def end(
        self, acc: Buffer, channels: list[Expr], plane: int, places: list[Place], lanes: int
    ) -> None:
        """Finishes and stores a tile.

        Everything is read before anything is written: rows beyond the last active channel repeat
        it, and must find the residual and the sums as they were.
        """
        epilogue = self.epilogue
        source = self.result if epilogue.residual == "in_place" else self.residual
        totals, size = [], len(channels) * len(places) * lanes
        done = acc if acc.dtype == self.result.dtype else tir.local(size, self.result.dtype)
        for i, channel in enumerate(channels):
            scale: Expr = None
            shift: Expr = None
            total: Expr = None
            bias = None if acc.dtype == FLOAT32 else let(splat(self.bias[channel], lanes))
            if self.gate is not None and self.shift is not None:
                scale = let(splat(self.gate[channel], lanes))
                shift = let(splat(self.shift[channel], lanes))
            for v, place in enumerate(places):
                cell = (i * len(places) + v) * lanes
                value = read(acc, cell, lanes)
                if bias is not None:
                    value = value + bias
                if scale is not None:
                    value = value * scale + shift
                if epilogue.residual:
                    value = value + read(source, channel * plane + place.offset, lanes)
                value = let(clamped(value, epilogue.clamp, lanes))
                write(done, cell, value, lanes)
                if epilogue.means:
                    counted = (
                        value if place.real is None else masked(value, place.real, lanes, FLOAT32)
                    )
                    total = counted if total is None else total + counted
            if epilogue.means:
                totals.append(let(load(self.sums, channel * lanes, lanes) + total))
        for i, channel in enumerate(channels):
            if epilogue.means:
                store(self.sums, channel * lanes, totals[i], lanes)
            for v, place in enumerate(places):
                value = load(done, (i * len(places) + v) * lanes, lanes)
                store_vector(self.result, value, channel * plane, place, lanes)
