"""How a convolution lies in memory while vectors of sixteen codes work on it.

Activations of active channels are copied pixel by pixel, ``[row][column][channel]``, with their
border. What the taps of one row of the kernel meet is then a *run* of bytes side by side, in the
copy and in the weights ``[output][run][column of the kernel][channel]``. Runs of weights end in
zeros that fill up a vector; what activations those meet does not matter.

A *tall* copy has the rows that a row of results meets at every column, ``[row of results][column]
[row of the kernel][channel]``: each row is copied several times, and all taps are one run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from headgate.compile.isa.mve import BYTES
from headgate.compile.kernels.convolution import ConvShape
from headgate.compile.kernels.smlad.words import quotient
from headgate.compile.kernels.tir import Expr

OUTPUTS = 3
"""Outputs of a tile, at most: their sums with two pixels fill the registers."""
PIXELS = 2
"""Pixels of a tile."""
MOST_PACKED_BYTES = 32 << 10
"""What copied activations may take; images that need more are computed in chunks of rows."""
MAX_UNROLLED_VECTORS = 9
"""Of an output's weights."""
_VECTOR, _RUN, _COPY = 12, 4, 0.7
"""Instructions for a vector and for a run of a tile, and for a byte that is copied."""
MOST_PIXELS = 512
"""Pixels of a chunk, whose sums are kept for all outputs of a tile."""


@dataclass(frozen=True)
class Layout:
    """Runs and chunks of one group of a convolution."""

    shape: ConvShape
    tall: bool = False

    @classmethod
    def of(cls, shape: ConvShape, gated_in: bool) -> Layout:
        """A tall copy where it takes fewer instructions."""
        flat, tall = cls(shape), cls(shape, tall=True)
        able = shape.kernel[0] > 1 and shape.dilation[1] == 1 and tall.countable
        if not able or tall.pitch * tall.cell > MOST_PACKED_BYTES:
            return flat
        # Half of the inputs, where it is only known when running.
        inputs = (shape.group_in + 1) // 2 if gated_in else shape.group_in
        saved = _VECTOR * (flat.vectors(inputs) * flat.runs - tall.vectors(inputs))
        if gated_in or not flat.small:
            saved += _RUN * (flat.runs - 1)
        again = shape.kernel[0] - min(shape.kernel[0], shape.stride[0])
        copied = _COPY * again * shape.stride[1] * inputs
        return tall if saved * shape.group_out > copied * (OUTPUTS * PIXELS) else flat

    @property
    def countable(self) -> bool:
        """Whether places in a run, and those of eight pixels of a copy, have 16 bits."""
        return max(self.source, 8 * self.cell) < 1 << 16

    @property
    def small(self) -> bool:
        """Whether a tile of all inputs is so small that a loop would be the larger part of it."""
        return self.vectors() * self.runs <= MAX_UNROLLED_VECTORS

    @property
    def cell(self) -> int:
        """Bytes of a pixel of the copy, with all channels."""
        return self.rows_of_cell * self.shape.group_in

    @property
    def rows_of_cell(self) -> int:
        """Rows of the kernel that a pixel of the copy has."""
        return self.shape.kernel[0] if self.tall else 1

    @property
    def points(self) -> bool:
        """Whether pixels have no neighbours, so that only those that count are copied."""
        return self.shape.taps == 1 and not any(self.shape.padding)

    # Runs

    @property
    def run_taps(self) -> int:
        """Taps of a run: those of a row where they are neighbours."""
        if self.tall:
            return self.shape.taps
        return self.shape.kernel[1] if self.shape.dilation[1] == 1 else 1

    @property
    def runs(self) -> int:
        """Runs of an output."""
        return self.shape.taps // self.run_taps

    @property
    def run_groups(self) -> int:
        """Rows of the kernel whose taps are no neighbours, or one group of all runs."""
        return self.runs // self.run_group

    @property
    def run_group(self) -> int:
        """Runs that lie equally far apart."""
        if self.tall:
            return 1
        height, width = self.shape.kernel
        return height if self.run_taps > 1 or width == 1 else width

    @property
    def run_step(self) -> int:
        """From one of them to the next, in pixels of the copy."""
        if self.run_taps > 1 or self.shape.kernel[1] == 1:
            return self.shape.dilation[0] * self.pitch
        return self.shape.dilation[1]

    def run_start(self, run: int) -> int:
        """Where a run begins, in pixels of the copy from the first tap."""
        group, place = divmod(run, self.run_group)
        return group * self.shape.dilation[0] * self.pitch + place * self.run_step

    def vectors(self, inputs: Expr | None = None) -> Expr:
        """Vectors of a run of so many channels, all of the group's by default."""
        count = self.shape.group_in if inputs is None else inputs
        return quotient(count * self.run_taps + (BYTES - 1), BYTES)

    def depth(self, inputs: Expr | None = None) -> Expr:
        """Bytes of an output's weights."""
        return self.vectors(inputs) * (self.runs * BYTES)

    # Chunks of the copied activations

    @property
    def pitch(self) -> int:
        """From one row of the copy to the next, in pixels."""
        shape = self.shape
        return 0 if self.points else shape.width + shape.padding[1] + shape.padding[3]

    def rows(self, chunk: int) -> int:
        """Rows of the copy that ``chunk`` output rows need."""
        shape = self.shape
        if self.tall:
            return chunk
        return (chunk - 1) * shape.stride[0] + (shape.kernel[0] - 1) * shape.dilation[0] + 1

    @property
    def down(self) -> int:
        """From a row of results to the next, in pixels of the copy."""
        return self.pitch * (1 if self.tall else self.shape.stride[0])

    @property
    def across(self) -> int:
        """From a pixel of a row of results to the next, in pixels of the copy."""
        return 1 if self.points else self.shape.stride[1]

    @property
    def whole_rows(self) -> bool:
        """Whether a chunk consists of rows: all do but those of points that lie side by side."""
        return not (self.points and self.shape.stride == (1, 1))

    @cached_property
    def chunk(self) -> int:
        """Output rows of a chunk, or pixels where they are no rows."""
        shape = self.shape
        end = shape.out_height if self.whole_rows else shape.pixels
        width = shape.out_width if self.whole_rows else 1

        def fits(count: int) -> bool:
            pixels = count * width if self.points else self.rows(count) * self.pitch
            return pixels * self.cell <= MOST_PACKED_BYTES and count * width <= MOST_PIXELS

        most = max((n for n in range(1, end + 1) if fits(n)), default=1)
        if not self.whole_rows:
            # Vectors of eight and four pixels.
            return end if most == end else max(8, most // 8 * 8)
        return -(-end // -(-end // most))

    @property
    def chunks(self) -> int:
        return -(-(self.shape.out_height if self.whole_rows else self.shape.pixels) // self.chunk)

    @property
    def pixels(self) -> int:
        """Output pixels of a chunk."""
        return self.chunk * (self.shape.out_width if self.whole_rows else 1)

    @property
    def packed(self) -> int:
        """Bytes of the copy; a last tile reads a pixel behind it, and a last vector more."""
        count = self.pixels if self.points else self.rows(self.chunk) * self.pitch
        return (count + self.across) * self.cell + BYTES

    @property
    def sums(self) -> int:
        """From the sums of one output of a tile to those of the next.

        There is room for a pixel that there is none of, where a row may have an odd number.
        """
        if not self.points and self.shape.out_width % PIXELS == 0:
            return self.pixels
        return self.pixels + PIXELS - self.pixels % PIXELS

    # Weights

    def rows_of(self, weight: np.ndarray) -> np.ndarray:
        """Weights int8 (outputs, inputs, rows, columns) as (outputs, depth)."""
        return self._runs(weight, self.vectors() * BYTES)

    def sources_of(self, weight: np.ndarray) -> np.ndarray:
        """The same for a gated input, int8 (outputs, runs x (run + 1)).

        A zero stands behind each run, for the bytes that fill up a vector.
        """
        return self._runs(weight, self.source)

    @property
    def source(self) -> int:
        """Bytes of a run of all channels, and a zero."""
        return self.run_taps * self.shape.group_in + 1

    def _runs(self, weight: np.ndarray, size: int) -> np.ndarray:
        outputs = len(weight)
        order = (0, 3, 2, 1) if self.tall else (0, 2, 3, 1)
        runs = weight.transpose(order).reshape(outputs, self.runs, -1)
        filled = np.pad(runs, ((0, 0), (0, 0), (0, size - runs.shape[2])))
        return np.ascontiguousarray(filled.reshape(outputs, -1))
