"""The means of channels by VADDVA, which adds a vector of sixteen codes to a sum."""

from __future__ import annotations

from headgate.compile.isa.mve import BYTES, sum_of
from headgate.compile.kernels import tir
from headgate.compile.kernels.smlad import gating
from headgate.compile.kernels.smlad.words import number
from headgate.compile.kernels.tir import Buffer, Expr, load, loop, store
from headgate.device.tensor_type import INT32


class ChannelMean(gating.ChannelMean):
    """The code of the mean over the pixels of each channel; zero for those that are inactive."""

    def _sum(self, x: Buffer, start: Expr) -> Expr:
        whole = self.pixels // BYTES
        total = tir.local(1, INT32)
        store(total, 0, tir.int32(0))
        with loop(whole) as i:
            own = load(x, start + i * BYTES, BYTES)
            store(total, 0, total[0] + sum_of(own, self.dtypes[0]))
        with loop(self.pixels - whole * BYTES) as i:
            store(total, 0, total[0] + number(x, start + whole * BYTES + i))
        return total[0]
