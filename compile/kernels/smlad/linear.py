"""A fully connected layer by SMLAD: four inputs meet the weights of four outputs.

A word of inputs is taken apart into two pairs once for all outputs of a block. Those of weights
are taken apart each time, which costs flash nothing.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from headgate.compile.isa.smlad import halves, multiply_add, pairing, rolled
from headgate.compile.kernels.i8 import linear
from headgate.compile.kernels.smlad.words import word
from headgate.compile.kernels.tir import Buffer, Expr, let, store
from headgate.device.tensor_type import INT8


class Linear(linear.Linear):
    """As the kernel of any instructions."""

    @property
    def lanes(self) -> int:
        return 1

    def _body(self, **buffers: Buffer) -> None:
        with pairing():
            super()._body(**buffers)

    def _turns(self, count: Expr) -> AbstractContextManager[Expr]:
        return rolled(count)

    def _multiply(self, x: Buffer, at: Expr, weight: Buffer, row: Expr, acc: Buffer) -> None:
        own = word(x, let(at * self.word))
        pairs = [let(halves(own, self.dtypes[0], turned)) for turned in (False, True)]
        for v in range(self.vectors):
            weights = let(weight[row + v])
            for turned, pair in enumerate(pairs):
                store(acc, v, multiply_add(halves(weights, INT8, bool(turned)), pair, acc[v]))
