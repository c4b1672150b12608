"""The product of two tensors' matrices, vectorised over the columns of the result."""

from __future__ import annotations

from dataclasses import dataclass

from headgate.compile.kernels import tir
from headgate.compile.kernels.float.words import floats, local, splat
from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.split import PART, share
from headgate.compile.kernels.tir import Buffer, Expr, let, load, loop, store

ROWS = 4
"""Rows side by side, which share the loads of a vector of ``b``."""


@dataclass(frozen=True)
class Matmul(Kernel):
    """``y = a @ b`` for matrices (rows, inner) and (inner, columns), stored row by row."""

    rows: int
    inner: int
    columns: int
    lanes: int

    def parameters(self) -> list[Parameter]:
        return [*floats("a", "b", "y"), PART]

    def _body(self, a: Buffer, b: Buffer, y: Buffer, part: Buffer) -> None:
        whole = self.rows // ROWS
        if whole:
            first, end = share(whole, 1, part)
            with loop(end - first) as index:
                self._rows(a, b, y, let((first + index) * ROWS), ROWS)
        left = self.rows - whole * ROWS
        if left:
            # The last rows are one thread's; with others they would be computed by each.
            with tir.when(part[0] == part[1] - 1):
                self._rows(a, b, y, whole * ROWS, left)

    def _rows(self, a: Buffer, b: Buffer, y: Buffer, row: Expr, count: int) -> None:
        width, column = self.lanes, 0
        while column < self.columns:
            while width > self.columns - column:
                width //= 2
            vectors = (self.columns - column) // width
            with loop(vectors) as v:
                self._tile(a, b, y, row, count, let(column + v * width), width)
            column += vectors * width

    def _tile(
        self, a: Buffer, b: Buffer, y: Buffer, row: Expr, count: int, column: Expr, width: int
    ) -> None:
        acc = local(count * width)
        for r in range(count):
            store(acc, r * width, splat(0, width), width)
        with loop(self.inner) as k:
            vector = let(load(b, k * self.columns + column, width))
            for r in range(count):
                factor = splat(a[(row + r) * self.inner + k], width)
                store(acc, r * width, load(acc, r * width, width) + factor * vector, width)
        for r in range(count):
            store(y, (row + r) * self.columns + column, load(acc, r * width, width), width)
