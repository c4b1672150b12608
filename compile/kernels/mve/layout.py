"""How a convolution lies in memory while vectors of sixteen codes work on it.

Activations of active channels are copied pixel by pixel, ``[row][column][channel]``, with their
border. What the taps of one row of the kernel meet is then a *run* of bytes side by side, in the
copy and in the weights ``[output][run][column of the kernel][channel]``. Runs of weights end in
zeros that fill up a vector; what activations those meet does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
MOST_PACKED_BYTES = 24 << 10
"""What copied activations may take; images that need more are computed in chunks of rows."""
MOST_PIXELS = 512
"""Pixels of a chunk, whose sums are kept for all outputs of a tile."""


@dataclass(frozen=True)
class Layout:
    """Runs and chunks of one group of a convolution."""

    shape: ConvShape

    @property
    def points(self) -> bool:
        """Whether pixels have no neighbours, so that only those that count are copied."""
        return self.shape.taps == 1 and not any(self.shape.padding)

    # Runs

    @property
    def run_taps(self) -> int:
        """Taps of a run: those of a row where they are neighbours."""
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

    @cached_property
    def copied(self) -> ConvShape:
        """The convolution of the copy: that of some pixels in a row where they are points."""
        if not self.points:
            return self.shape
        pixels = self.shape.pixels
        return replace(self.shape, height=1, width=pixels, stride=(1, 1), dilation=(1, 1))

    @property
    def pitch(self) -> int:
        """From one row of the copy to the next, in pixels."""
        shape = self.shape
        return 0 if self.points else shape.width + shape.padding[1] + shape.padding[3]

    def rows(self, chunk: int) -> int:
        """Rows of the copy that ``chunk`` output rows need."""
        shape = self.shape
        return (chunk - 1) * shape.stride[0] + (shape.kernel[0] - 1) * shape.dilation[0] + 1

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
            return pixels * shape.group_in <= MOST_PACKED_BYTES and count * width <= MOST_PIXELS

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
        across = 1 if self.points else self.shape.stride[1]
        return (count + across) * self.shape.group_in + BYTES

    @property
    def sums(self) -> int:
        """From the sums of one output of a tile to those of the next; even, with room for one."""
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
        runs = weight.transpose(0, 2, 3, 1).reshape(outputs, self.runs, -1)
        filled = np.pad(runs, ((0, 0), (0, 0), (0, size - runs.shape[2])))
        return np.ascontiguousarray(filled.reshape(outputs, -1))
