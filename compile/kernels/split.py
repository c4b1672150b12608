"""How the threads of a team share a kernel.

Each takes a run of output channels, in whole register tiles, and prepares the pixels it needs for
itself: one or two percent of a convolution, against a barrier in the middle of every chunk. No
number is computed in another way than by one thread alone, so results are the same bits.
"""

from __future__ import annotations

from headgate.compile.kernels import tir
from headgate.compile.kernels.tir import Buffer, Expr, let

PART = ("part", "int32")
"""The parameter of a kernel that can be shared: which part this is, and of how many."""


def share(count: Expr, grain: int, part: Buffer) -> tuple[Expr, Expr]:
    """The part's (first, end) of ``count`` things, at multiples of ``grain``."""

    def at(index: Expr) -> Expr:
        # Rounded down or towards zero the quotient is the same, as none of it is negative. Down is
        # written out with conditions on signs, which TVM then weighs in all that is inside.
        return let(tir.minimum(count, tir.T.truncdiv(units * index, part[1]) * grain))

    units = -(-count // grain) if isinstance(count, int) else let((count + (grain - 1)) // grain)
    return at(part[0]), at(part[0] + 1)
