"""How a convolution lies in memory while SMLAD works on it.

A result is a dot product of *terms*: pairs of weights and pairs of activations. All terms of two
output pixels stand in *columns*, ``[term][pixel]``, and those of two or three outputs in a *block*
of weights, ``[term][output]``, so that the inner loop reads from two places only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from headgate.compile.kernels.convolution import ConvShape
from headgate.compile.kernels.smlad.words import quotient
from headgate.compile.kernels.tir import Expr

BLOCK = 3
"""Outputs of a block; four by two pixels do not fit the registers as LLVM uses them."""
PIXELS = 2
"""Pixels of a tile."""
UNROLL = 4
"""Terms of one turn of the inner loop; blocks have a multiple, the surplus weights are zero."""
MOST_PACKED_BYTES = 40 << 10
"""What copied activations may take; images that need more are computed in chunks of rows."""
MOST_POINT_BYTES = 8 << 10
"""The same where pixels have no neighbours: chunks cost nothing there."""
MOST_WEIGHT_BYTES = 24 << 10
"""What chosen weights may take; outputs that need more are computed one part after another."""
_MOST_ROW_TERMS = 64

Tap = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """Terms, chunks and blocks of one group of a convolution.

    ``mode``: ``"points"``, a term is a pair of channels of a 1x1 convolution; ``"pairs"``, a pair
    of channels at one tap; ``"rows"``, a pair of taps of one channel, for inputs of few channels.
    """

    shape: ConvShape
    mode: str

    @classmethod
    def of(cls, shape: ConvShape, gated_in: bool) -> Layout:
        if shape.taps == 1 and not any(shape.padding):
            return cls(shape, "points")
        rows, pairs = cls(shape, "rows"), cls(shape, "pairs")
        able = not gated_in and shape.dilation[1] == 1
        if able and len(rows.row_terms) <= _MOST_ROW_TERMS and rows.depth() < pairs.depth():
            return rows
        return pairs

    @cached_property
    def row_terms(self) -> list[tuple[Tap, Tap | None]]:
        """The terms of one channel: neighbours in a row of taps, then those left over."""
        height, width = self.shape.kernel
        found: list[tuple[Tap, Tap | None]] = [
            ((r, s), (r, s + 1)) for r in range(height) for s in range(0, width - 1, 2)
        ]
        if width % 2:
            last = width - 1
            found += [
                ((r, last), (r + 1, last) if r + 1 < height else None) for r in range(0, height, 2)
            ]
        return found

    @property
    def unit_terms(self) -> int:
        """Terms of one unit, which is a channel or a pair of them."""
        return len(self.row_terms) if self.mode == "rows" else self.shape.taps

    def units(self, inputs: Expr) -> Expr:
        """Units of so many channels."""
        if self.mode == "rows":
            return inputs
        return quotient(inputs + 1, 2)

    def depth(self, inputs: Expr | None = None) -> Expr:
        """Terms of an output of so many channels, all of its group's by default."""
        terms = self.units(self.shape.group_in if inputs is None else inputs) * self.unit_terms
        return quotient(terms + (UNROLL - 1), UNROLL) * UNROLL

    # The copied activations

    @property
    def pitch(self) -> int:
        """From one row of an input to the next, in pairs or numbers."""
        return self.shape.width + self.shape.padding[1] + self.shape.padding[3]

    def rows(self, chunk: int) -> int:
        """Rows of an input that ``chunk`` output rows need."""
        shape = self.shape
        return (chunk - 1) * shape.stride[0] + (shape.kernel[0] - 1) * shape.dilation[0] + 1

    @property
    def plane(self) -> int:
        """From one unit to the next, in pairs or numbers."""
        size = self.rows(self.chunk) * self.pitch
        return size + size % 2 if self.mode == "rows" else size

    @property
    def packed(self) -> int:
        """Pairs, or numbers, that are copied at a time."""
        return self.units(self.shape.group_in) * self.plane

    @cached_property
    def chunk(self) -> int:
        """Output rows that are computed from one copy."""
        row = self.units(self.shape.group_in) * self.pitch * (2 if self.mode == "rows" else 4)
        fitting = [
            n
            for n in range(1, self.shape.out_height + 1)
            if row * self.rows(n) <= MOST_PACKED_BYTES
        ]
        most = max(fitting, default=1)
        chunks = -(-self.shape.out_height // most)
        return -(-self.shape.out_height // chunks)

    @cached_property
    def points(self) -> int:
        """Pixels of a chunk of a 1x1 convolution, even."""
        even = self.shape.pixels + self.shape.pixels % PIXELS
        fitting = MOST_POINT_BYTES // (self.depth() * 4)
        step = 4 * self._whole_rows
        if even <= max(fitting, step):
            return even
        return max(step, fitting // step * step)

    @property
    def _whole_rows(self) -> int:
        """Chunks of a 1x1 convolution that leaves out pixels consist of whole rows."""
        return 1 if self.shape.stride == (1, 1) else self.shape.out_width

    @property
    def columns(self) -> int:
        """Words of all columns that there are at a time."""
        return self.depth() * (self.points if self.mode == "points" else PIXELS)

    # Blocks of outputs

    @property
    def gathered(self) -> int:
        """Words of chosen weights: of all outputs, or of as many as fit."""
        fitting = MOST_WEIGHT_BYTES // (4 * self.depth()) // BLOCK * BLOCK
        return min(self._rows, max(BLOCK, fitting)) * self.depth()

    @property
    def gathers_all(self) -> bool:
        """Whether there is room for the weights of all outputs."""
        return self.gathered == self._rows * self.depth()

    @property
    def _rows(self) -> int:
        """Outputs, in whole blocks."""
        return -(-self.shape.group_out // BLOCK) * BLOCK

    def words(self, weight: np.ndarray) -> np.ndarray:
        """Weights int8 (outputs, inputs, rows, columns) as terms, int32 (outputs, depth)."""
        outputs, inputs = weight.shape[:2]
        if self.mode == "rows":
            terms = np.zeros((outputs, inputs, self.unit_terms, 2), np.int16)
            for i, taps in enumerate(self.row_terms):
                for half, tap in enumerate(taps):
                    if tap is not None:
                        terms[:, :, i, half] = weight[:, :, tap[0], tap[1]]
        else:
            even = np.pad(weight.reshape(outputs, inputs, -1), ((0, 0), (0, inputs % 2), (0, 0)))
            terms = even.reshape(outputs, -1, 2, self.shape.taps).transpose(0, 1, 3, 2)
        words = np.ascontiguousarray(terms, np.int16).view(np.int32).reshape(outputs, -1)
        return np.pad(words, ((0, 0), (0, self.depth() - words.shape[1])))

    def blocks(self, weight: np.ndarray) -> np.ndarray:
        """The same for all groups, in blocks ``[group][block][term][output]``."""
        found = []
        for group in self.words(weight).reshape(self.shape.groups, self.shape.group_out, -1):
            first = 0
            for size in block_sizes(self.shape.group_out):
                found.append(group[first : first + size].T.reshape(-1))
                first += size
        return np.concatenate(found)


def block_sizes(outputs: int) -> list[int]:
    """The blocks of so many outputs: threes, and then twos rather than a single one."""
    if outputs == 1:
        return [1]
    twos = -outputs % BLOCK
    return [BLOCK] * ((outputs - 2 * twos) // BLOCK) + [2] * twos
