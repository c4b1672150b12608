"""Max pooling by USUB8 and SEL: the larger ones of four codes and four others."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import ClassVar

from tvm import tirx

from headgate.compile.isa.smlad import halves, larger, pairing, rolled, smaller
from headgate.compile.isa.vector import read_as
from headgate.compile.kernels.i8 import row_pool
from headgate.compile.kernels.smlad.words import CODES_PER_WORD, word
from headgate.compile.kernels.tir import Buffer, Expr, int32, let, loop, store
from headgate.device.tensor_type import INT16, UINT8


class MaxPool(row_pool.MaxPool):
    """By words of four codes."""

    codes: ClassVar[int] = CODES_PER_WORD

    def _instructions(self) -> AbstractContextManager[None]:
        return pairing()

    def _turns(self, extent: Expr) -> AbstractContextManager[Expr]:
        return loop(extent) if isinstance(extent, int) and extent == 1 else rolled(extent)

    def _load(self, buffer: Buffer, at: Expr) -> Expr:
        return word(buffer, at)

    def _filled(self, code: int) -> Expr:
        value = (code & 0xFF) * 0x01010101
        return int32(value - (1 << 32) if value >> 31 else value)

    def _larger(self, left: Expr, right: Expr) -> Expr:
        return larger(left, right, self.dtype)

    def _smaller(self, left: Expr, right: Expr) -> Expr:
        return smaller(left, right, self.dtype)

    def _moved(self, value: Expr) -> Expr:
        return let(value >> int32(8))

    def _store(self, buffer: Buffer, at: Expr, value: Expr, every: int, most: int) -> None:
        if every == 2:
            pairs = let(halves(value, UINT8, False))
            both = tirx.Cast(INT16, pairs | (pairs >> int32(8)))
            store(buffer, at, read_as(buffer.dtype, 2, both), 2)
        else:
            store(buffer, at, read_as(buffer.dtype, CODES_PER_WORD, value), CODES_PER_WORD)
