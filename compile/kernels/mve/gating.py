"""The means of channels by VADDVA, which adds a vector of sixteen codes to a sum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from headgate.compile.isa.base import DotIsa
from headgate.compile.isa.mve import BYTES, sum_of
from headgate.compile.kernels import tir
from headgate.compile.kernels.i8 import gating
from headgate.compile.kernels.i8.words import Bounds
from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.lists import list_parameters, visited
from headgate.compile.kernels.mve.finish import code
from headgate.compile.kernels.smlad.words import as_float, number
from headgate.compile.kernels.tir import Buffer, let, load, loop, store
from headgate.device.tensor_type import FLOAT32, INT32


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
        whole = self.pixels // BYTES
        with loop(channels) as j:
            channel = let(nth(j))
            start = let(channel * self.pixels)
            total = tir.local(1, INT32)
            store(total, 0, tir.int32(0))
            with loop(whole) as i:
                own = load(x, start + i * BYTES, BYTES)
                store(total, 0, total[0] + sum_of(own, self.dtypes[0]))
            with loop(self.pixels - whole * BYTES) as i:
                store(total, 0, total[0] + number(x, start + whole * BYTES + i))
            found = code(as_float(total[0]) * factor[0], self.clamp, 1, self.dtypes[1])
            store(y, channel, tirx.Cast(self.dtypes[1], found))
