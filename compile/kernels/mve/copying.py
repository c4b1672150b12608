"""Copies planes of active channels pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from headgate.compile.isa.mve import BYTES, hidden, put, take
from headgate.compile.kernels import tir
from headgate.compile.kernels.i8.words import FLIP, wide
from headgate.compile.kernels.i8.words import apart as fenced
from headgate.compile.kernels.mve.layout import Layout
from headgate.compile.kernels.smlad.words import quotient
from headgate.compile.kernels.tir import Buffer, Expr, int32, let, load, loop, splat, store
from headgate.device.tensor_type import FLOAT32, INT8, INT16, UINT8

LANES = 8
"""Codes that are moved together, each to its own place."""
UINT16 = "uint16"
_MOST_UNROLLED = 4


@dataclass(frozen=True)
class Copy:
    """The copy of the ``count`` active inputs of a group.

    ``channel`` says which channel of ``x`` is at a position of theirs. Codes of uint8 become
    int8, 128 less.
    """

    layout: Layout
    x: Buffer
    packed: Buffer
    count: Expr
    channel: Callable[[Expr], Expr]

    def fill(self, first: Expr, size: Expr) -> None:
        """Copies what the ``size`` output rows, or pixels, from ``first`` on need."""
        layout, shape = self.layout, self.layout.shape
        if not layout.points:
            self._fill_planes(first)
            return
        if not layout.whole_rows:
            with loop(self.count) as j:
                start = let(self.channel(j) * shape.pixels + first)
                self._row(start, j, size, 1)
            return
        with loop(self.count) as j, loop(hidden(size)) as y:
            row = (first + y) * shape.stride[0]
            start = let(self.channel(j) * (shape.height * shape.width) + row * shape.width)
            into = let(y * shape.out_width * self.count + j)
            self._row(start, into, shape.out_width, shape.stride[1])

    def _fill_planes(self, first: Expr) -> None:
        layout, shape = self.layout, self.layout.shape
        rows, (over, left, *_) = layout.rows(layout.chunk), shape.padding
        if any(shape.padding):
            self._clear(rows)
        rows_of_cell = layout.rows_of_cell
        down = shape.stride[0] if layout.tall else 1
        top = let(first * shape.stride[0] - over)
        with loop(self.count) as j:
            plane = let(self.channel(j) * (shape.height * shape.width))
            with loop(hidden(rows_of_cell)) as r:
                above = let(-top - r * shape.dilation[0])
                begin = quotient(tir.maximum(above, 0) + (down - 1), down)
                behind = quotient(tir.maximum(above + shape.height, 0) + (down - 1), down)
                end = let(tir.minimum(behind, rows))
                with loop(hidden(tir.maximum(end - begin, 0))) as i:
                    y = let(begin + i)
                    start = let(plane + (y * down - above) * shape.width)
                    cell = let((y * layout.pitch + left) * rows_of_cell + r)
                    self._row(start, let(cell * self.count + j), shape.width, 1)

    def _clear(self, rows: int) -> None:
        """Fills the copy with the code of zero."""
        zero = -FLIP if self.x.dtype == UINT8 else 0
        # Behind a fence it is no constant, of which LLVM would make a call of memset.
        floats = tirx.reinterpret(f"{FLOAT32}x4", splat(zero, BYTES, INT8))
        zeros = let(tirx.reinterpret(f"{INT8}x{BYTES}", fenced(floats, 4)))
        size = quotient(
            self.count * (rows * self.layout.pitch * self.layout.rows_of_cell) + (BYTES - 1), BYTES
        )
        with loop(size) as i:
            store(self.packed, i * BYTES, zeros, BYTES)

    def _row(self, start: Expr, into: Expr, size: Expr, stride: int) -> None:
        """Every ``stride``-th of the codes from ``start`` on, ``size`` of them."""
        apart = let(self.count * self.layout.rows_of_cell)
        step = tirx.Cast(UINT16, apart)
        ramp = tirx.Cast(f"{UINT16}x{LANES}", tirx.Ramp(int32(0), int32(1), LANES))
        places = let(ramp * splat(step, LANES, UINT16))
        flip = FLIP if self.x.dtype == UINT8 else 0
        whole = quotient(size, LANES)
        few = isinstance(whole, int) and whole <= _MOST_UNROLLED
        with loop(whole if few else hidden(whole)) as i:
            at = let(start + i * (LANES * stride))
            if stride == 1:
                value = wide(load(self.x, at, LANES), LANES, INT16)
            else:
                value = take(self.x, at, let(ramp * splat(stride, LANES, UINT16)), LANES)
            if flip:
                value = value ^ splat(-flip, LANES, INT16)
            put(self.packed, let(into + i * (LANES * apart)), places, value)
        done = let(whole * LANES)
        if isinstance(size, int) and size == done:
            return
        with loop(hidden(size - done)) as i:
            code = tirx.reinterpret(INT8, self.x[start + (done + i) * stride])
            if flip:
                code = code ^ tirx.IntImm(INT8, -FLIP)
            store(self.packed, into + (done + i) * apart, code)
