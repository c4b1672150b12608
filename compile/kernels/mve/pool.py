"""Max pooling by VMAX: the larger ones of sixteen codes and sixteen others."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import ClassVar

from tvm import tirx

from headgate.compile.isa.mve import BYTES, hidden, rows_of_tiles
from headgate.compile.isa.vector import read_as
from headgate.compile.kernels import tir
from headgate.compile.kernels.i8 import row_pool
from headgate.compile.kernels.tir import Buffer, Expr, let, load, loop, splat, store

_PAIRS = BYTES // 2


class MaxPool(row_pool.MaxPool):
    """By vectors of sixteen codes."""

    codes: ClassVar[int] = BYTES
    narrow: ClassVar[bool] = True  # the arena keeps more than a vector free around its buffers

    def _instructions(self) -> AbstractContextManager[None]:
        return rows_of_tiles(())

    def _turns(self, extent: Expr) -> AbstractContextManager[Expr]:
        return loop(extent if isinstance(extent, int) and extent == 1 else hidden(extent))

    def _load(self, buffer: Buffer, at: Expr) -> Expr:
        return let(load(buffer, at, BYTES))

    def _filled(self, code: int) -> Expr:
        return splat(code, BYTES, self.dtype)

    def _larger(self, left: Expr, right: Expr) -> Expr:
        return let(tir.maximum(left, right))

    def _smaller(self, left: Expr, right: Expr) -> Expr:
        return let(tir.minimum(left, right))

    def _moved(self, value: Expr) -> Expr:
        pairs = read_as("uint16", _PAIRS, value) >> splat(8, _PAIRS, "uint16")
        return let(read_as(self.dtype, BYTES, pairs))

    def _store(self, buffer: Buffer, at: Expr, value: Expr, every: int, most: int) -> None:
        if every == 2:
            # Of 16 bits the low eight are stored: an instruction of its own.
            pairs = read_as("uint16", _PAIRS, value)
            codes = tirx.Cast(f"{self.dtype}x{_PAIRS}", pairs)
            tir.store_part(buffer, at, codes, _PAIRS, min(most, _PAIRS))
        else:
            store(buffer, at, value, BYTES)
