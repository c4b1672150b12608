"""The means of channels by USADA8, which adds the four bytes of a word to a sum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from headgate.compile.isa.base import DotIsa
from headgate.compile.isa.vector import intrinsic
from headgate.compile.kernels import tir
from headgate.compile.kernels.i8 import gating
from headgate.compile.kernels.i8.words import FLIP, Bounds
from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.lists import list_parameters, visited
from headgate.compile.kernels.smlad.words import CODES_PER_WORD, as_float, code, number, word
from headgate.compile.kernels.tir import Buffer, Expr, int32, let, loop, store
from headgate.device.tensor_type import FLOAT32, INT8, INT32

_FLIPS = -0x7F7F7F80
"""The word that turns four int8 into uint8, 128 more, and back."""

_TURN = 8
"""Words of one turn: if it were one, LLVM would write out the loop over channels, too."""


@dataclass(frozen=True)
class ChannelMean(Kernel):
    """The code of the mean over the pixels of each channel; zero for those that are inactive."""

    channels: int
    pixels: int
    dtypes: tuple[str, str]
    """Of the input and the result."""
    clamp: Bounds
    gated: bool = False

    @classmethod
    def of(
        cls,
        isa: DotIsa,
        *_: Any,
        absolute: bool = False,
        sums: int | None = None,
        **asked: Any,
    ) -> Kernel:
        """This kernel, or that of any instructions for sums that there are and magnitudes."""
        if absolute or sums is not None:
            return gating.ChannelMean.of(isa, absolute=absolute, sums=sums, **asked)
        return cls(**asked)

    def parameters(self) -> list[Parameter]:
        lists = list_parameters("in") if self.gated else []
        return [("x", self.dtypes[0]), ("factor", FLOAT32), ("y", self.dtypes[1]), *lists]

    def constants(self, attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {"factor": np.array([attributes["factor"]], np.float32)}

    def _body(self, x: Buffer, factor: Buffer, y: Buffer, **lists: Buffer) -> None:
        if self.gated:
            with loop(self.channels) as c:
                store(y, c, tirx.IntImm(self.dtypes[1], 0))
        channels, nth = visited(self.channels, *lists.values())
        with loop(channels) as j:
            channel = let(nth(j))
            mean = as_float(self._sum(x, let(channel * self.pixels))) * factor[0]
            found = code(mean, self.clamp, self.dtypes[1])
            store(y, channel, tirx.Cast(self.dtypes[1], found))

    def _sum(self, x: Buffer, start: Expr) -> Expr:
        """The sum, int32, of the codes of the channel that begins at ``start``."""
        whole, signed = self.pixels // CODES_PER_WORD, self.dtypes[0] == INT8
        acc = tir.local(1, INT32)
        store(acc, 0, int32(-FLIP * CODES_PER_WORD * whole if signed else 0))

        def add(i: Expr) -> None:
            own: Expr = word(x, let(start + i * CODES_PER_WORD))
            own = own ^ int32(_FLIPS) if signed else own
            store(acc, 0, intrinsic(INT32, "arm.usada8", own, int32(0), acc[0]))

        with loop(whole // _TURN) as turn:
            for i in range(_TURN):
                add(turn * _TURN + i)
        with loop(whole % _TURN) as i:
            add(whole // _TURN * _TURN + i)
        for i in range(whole * CODES_PER_WORD, self.pixels):
            store(acc, 0, acc[0] + number(x, start + i))
        return acc[0]
