"""Fills the columns of a convolution: activations as pairs, in the order of the weights' terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from headgate.compile.isa.vector import read_as
from headgate.compile.kernels import tir
from headgate.compile.kernels.smlad.layout import PIXELS, Layout
from headgate.compile.kernels.smlad.words import (
    CODES_PER_WORD,
    number,
    pair,
    pairs_of_planes,
    pairs_of_row,
    quotient,
    rest,
    rolled,
    word,
)
from headgate.compile.kernels.tir import Buffer, Expr, let, load, store, when
from headgate.device.tensor_type import INT16, INT32

MAX_UNROLLED_TAPS = 25
"""With more, the rows of the kernel become a loop."""


@dataclass(frozen=True)
class Tile:
    """Two output pixels: their places in a plane of results, and where their columns begin."""

    pixels: tuple[Expr, Expr]
    columns: Expr


@dataclass(frozen=True)
class Columns:
    """The columns of the active inputs of a group.

    ``channel`` says which channel of ``x`` is at a position of the ``count`` inputs.
    """

    layout: Layout
    x: Buffer
    packed: Buffer
    columns: Buffer
    count: Expr
    channel: Callable[[Expr], Expr]

    @property
    def whole(self) -> bool:
        """Whether everything is copied at once."""
        shape = self.layout.shape
        if self.layout.mode == "points":
            return self.layout.points >= shape.pixels
        return self.layout.chunk >= shape.out_height

    def chunks(self, body: Callable[[Expr], None]) -> None:
        """``body(first)`` for the first row of each chunk, or its first pixel."""
        layout, shape = self.layout, self.layout.shape
        points = layout.mode == "points"
        size, end = (layout.points, shape.pixels) if points else (layout.chunk, shape.out_height)
        with rolled(-(-end // size)) as index:
            body(let(index * size))

    def fill(self, first: Expr) -> None:
        """Copies what the chunk from ``first`` on needs."""
        if self.layout.mode == "points":
            self._fill_points(first)
        else:
            self._fill_planes(first)

    def tiles(self, first: Expr, body: Callable[[Tile], None]) -> None:
        """``body`` for each tile of the chunk from ``first`` on, with its columns filled."""
        layout, shape = self.layout, self.layout.shape
        if layout.mode == "points":
            count = self._rest(first, layout.points, shape.pixels)
            step = PIXELS * layout.depth(self.count)
            with rolled(_half(count)) as t:
                p = let(first + t * PIXELS)
                body(Tile((p, self._next(p, shape.pixels)), let(t * step)))
            return
        rows, width = self._rest(first, layout.chunk, shape.out_height), shape.out_width
        down, across = shape.stride[0] * layout.pitch, shape.stride[1]
        if width % PIXELS == 0:
            with rolled(rows) as y, rolled(width // PIXELS) as u:
                start = let(y * down + u * (PIXELS * across))
                p = let((first + y) * width + u * PIXELS)
                self._gather(start, start + across)
                body(Tile((p, p + 1), 0))
            return
        count = let(rows * width)
        with rolled(_half(count)) as t:
            places = [let(t * PIXELS), self._next(t * PIXELS, count)]
            starts = [let(quotient(p, width) * down + rest(p, width) * across) for p in places]
            self._gather(*starts)
            begin = let(first * width)
            body(Tile((let(begin + places[0]), let(begin + places[1])), 0))

    @staticmethod
    def _rest(first: Expr, size: int, end: int) -> Expr:
        """How much of a chunk there is."""
        return size if end % size == 0 else let(tir.minimum(end - first, size))

    @staticmethod
    def _next(pixel: Expr, end: Expr) -> Expr:
        """The pixel behind one; behind the last of all, the same again."""
        if isinstance(end, int) and end % PIXELS == 0:
            return pixel + 1
        return let(tir.minimum(pixel + 1, end - 1))

    def _sources(self, unit: Expr) -> tuple[Expr, Expr]:
        """Where the planes of a pair of channels begin; a last one without partner has itself."""
        plane = self.layout.shape.height * self.layout.shape.width
        second = 2 * unit + 1
        if not (isinstance(self.count, int) and self.count % 2 == 0):
            second = tir.minimum(second, self.count - 1)
        return let(self.channel(2 * unit) * plane), let(self.channel(second) * plane)

    # 1x1

    def _fill_points(self, first: Expr) -> None:
        layout, shape = self.layout, self.layout.shape
        depth = layout.depth(self.count)
        count = self._rest(first, layout.points, shape.pixels)
        with rolled(layout.units(self.count)) as j:
            a, b = self._sources(j)

            def put(pixel: Expr, value: Expr, j: Expr = j) -> None:
                """Stores the pair of a pixel of the chunk."""
                tile, half = quotient(pixel, PIXELS), rest(pixel, PIXELS)
                store(self.columns, (tile * depth + j) * PIXELS + half, value)

            def single(pixel: Expr, at: Expr, a: Expr = a, b: Expr = b, put=put) -> None:
                put(pixel, pair(number(self.x, a + at), number(self.x, b + at)))

            if shape.stride != (1, 1):
                with rolled(quotient(count, shape.out_width)) as y, rolled(shape.out_width) as u:
                    row = quotient(first, shape.out_width) + y
                    at = let(row * (shape.stride[0] * shape.width) + u * shape.stride[1])
                    single(let(y * shape.out_width + u), at)
            else:
                with rolled(quotient(count, CODES_PER_WORD)) as i:
                    at = let(first + i * CODES_PER_WORD)
                    words = word(self.x, a + at), word(self.x, b + at)
                    into = let(i * (2 * PIXELS * depth) + j * PIXELS)
                    for q, value in enumerate(pairs_of_planes(*words, self.x.dtype)):
                        store(self.columns, into + q // 2 * (PIXELS * depth) + q % 2, value)
                for at in range(shape.pixels - shape.pixels % CODES_PER_WORD, shape.pixels):
                    with when(True if self.whole else first + count == shape.pixels):
                        single(at - first, at)
            if shape.pixels % PIXELS:
                # The last tile has its only pixel twice.
                with when(True if self.whole else first + count == shape.pixels):
                    last = quotient(count, PIXELS) * depth * PIXELS + j * PIXELS
                    store(self.columns, last + 1, self.columns[last])

    # Planes with their border

    def _fill_planes(self, first: Expr) -> None:
        layout, shape = self.layout, self.layout.shape
        rows, pitch = layout.rows(layout.chunk), layout.pitch
        top = let(first * shape.stride[0] - shape.padding[0])
        with rolled(layout.units(self.count)) as j:
            if layout.mode == "rows":
                sources = [let(self.channel(j) * (shape.height * shape.width))]
            else:
                sources = list(self._sources(j))
            with rolled(rows) as r:
                row, into = let(top + r), let(j * layout.plane + r * pitch)
                inside = tir.tirx.all(row >= 0, row < shape.height)
                if not (shape.padding[0] or shape.padding[2]) and self.whole:
                    inside = True
                if inside is not True:
                    with when(tir.tirx.Not(inside)):
                        self._zeros(into, pitch)
                with when(inside):
                    self._zeros(into, shape.padding[1])
                    here = let(into + shape.padding[1])
                    self._copy([let(s + row * shape.width) for s in sources], here)
                    self._zeros(let(here + shape.width), shape.padding[3])

    def _zeros(self, into: Expr, count: int) -> None:
        zero = tir.tirx.IntImm(self.packed.dtype, 0)
        if count <= CODES_PER_WORD:
            for i in range(count):
                store(self.packed, into + i, zero)
            return
        with rolled(count) as i:
            store(self.packed, into + i, zero)

    def _copy(self, sources: list[Expr], into: Expr) -> None:
        """One row of a channel, or of two."""
        width, x = self.layout.shape.width, self.x
        with rolled(width // CODES_PER_WORD) as i:
            at = let(i * CODES_PER_WORD)
            words = [word(x, source + at) for source in sources]
            if len(sources) == 1:
                for q, value in enumerate(pairs_of_row(words[0], x.dtype)):
                    both = read_as(INT16, 2, value)
                    store(self.packed, let(into + at) + 2 * q, both, 2)
            else:
                for q, value in enumerate(pairs_of_planes(words[0], words[1], x.dtype)):
                    store(self.packed, let(into + at) + q, value)
        for at in range(width - width % CODES_PER_WORD, width):
            numbers = [number(x, source + at) for source in sources]
            own = pair(*numbers) if len(sources) == 2 else tir.tirx.Cast(INT16, numbers[0])
            store(self.packed, into + at, own)

    def _gather(self, *starts: Expr) -> None:
        """The columns of the pixels whose first taps lie at ``starts``."""
        layout, shape = self.layout, self.layout.shape
        high, wide = shape.dilation[0] * layout.pitch, shape.dilation[1]
        terms, unrolled = layout.unit_terms, shape.taps <= MAX_UNROLLED_TAPS
        with rolled(layout.units(self.count)) as j:
            here = [let(j * layout.plane + start) for start in starts]
            into = let(j * (terms * PIXELS))
            if layout.mode == "rows":
                for i, (one, other) in enumerate(layout.row_terms):
                    for v, at in enumerate(here):
                        value = self._term(at, one, other, high)
                        store(self.columns, into + (i * PIXELS + v), value)
                return
            with rolled(1 if unrolled else shape.kernel[0]) as r0:
                for r in range(shape.kernel[0] if unrolled else 1):
                    for s in range(shape.kernel[1]):
                        tap = (r0 + r) * shape.kernel[1] + s
                        for v, at in enumerate(here):
                            value = self.packed[at + ((r0 + r) * high + s * wide)]
                            store(self.columns, into + (tap * PIXELS + v), value)

    def _term(
        self, at: Expr, one: tuple[int, int], other: tuple[int, int] | None, high: int
    ) -> Expr:
        """Two taps of a channel as a pair."""
        first = at + (one[0] * high + one[1])
        if other is None:
            return tir.tirx.Cast(INT32, self.packed[first])
        if other[0] == one[0]:
            return read_as(INT32, 1, load(self.packed, first, 2))
        second = at + (other[0] * high + other[1])
        return pair(*(tir.tirx.Cast(INT32, self.packed[p]) for p in (first, second)))


def _half(count: Expr) -> Expr:
    """Tiles of so many pixels."""
    return quotient(count + (PIXELS - 1), PIXELS)
