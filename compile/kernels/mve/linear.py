"""A fully connected layer by VMLADAVA: sixteen inputs meet the weights of four outputs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, ClassVar

from headgate.compile.isa.base import DotIsa
from headgate.compile.isa.mve import BYTES, hidden, multiply_add, rows_of_tiles
from headgate.compile.isa.vector import read_as
from headgate.compile.kernels.i8 import linear
from headgate.compile.kernels.i8.words import FLIP
from headgate.compile.kernels.tir import Buffer, Expr, let, load, loop, splat, store
from headgate.device.tensor_type import INT8, UINT8


class Linear(linear.Linear):
    """As the kernel of any instructions, but a gated input's runs are whole vectors."""

    word: ClassVar[int] = BYTES
    packed: ClassVar[str] = INT8

    @classmethod
    def of(cls, isa: DotIsa, *_: Any, **asked: Any) -> linear.Linear:
        """This kernel, or that of any instructions where a vector would hold two channels."""
        whole = not asked["gated"] or asked["run"] % BYTES == 0
        return (cls if whole else linear.Linear)(isa, **asked)

    @property
    def lanes(self) -> int:
        return 1

    def _body(self, **buffers: Buffer) -> None:
        with rows_of_tiles(()):
            super()._body(**buffers)

    def _undone(self) -> int:
        return FLIP if self.dtypes[0] == UINT8 else 0

    def _turns(self, count: Expr) -> AbstractContextManager[Expr]:
        return loop(hidden(count))

    def _multiply(self, x: Buffer, at: Expr, weight: Buffer, row: Expr, acc: Buffer) -> None:
        own = load(x, at * BYTES, BYTES)
        if self.dtypes[0] == UINT8:
            own = read_as(INT8, BYTES, own) ^ splat(-FLIP, BYTES, INT8)
        pixels = let(own)
        for v in range(self.vectors):
            weights = load(weight, (row + v) * BYTES, BYTES)
            store(acc, v, multiply_add(pixels, weights, acc[v]))
