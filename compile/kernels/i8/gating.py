"""The means of channels of int8, for gates and classifiers: integer sums, rounded once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from headgate.compile.isa.base import DotIsa
from headgate.compile.kernels import tir
from headgate.compile.kernels.i8.words import (
    Bounds,
    apart,
    cleared,
    code,
    load_codes,
    store_codes,
    wide,
)
from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.lists import list_parameters, visited
from headgate.compile.kernels.tir import Buffer, Expr, fill, let, load, loop, store
from headgate.device.tensor_type import FLOAT32, INT32


@dataclass(frozen=True)
class ChannelMean(Kernel):
    """The code of the mean over the pixels of each channel; zero for those that are inactive.

    ``from_sums``: ``x`` holds ``lanes`` partial sums of each channel instead of its pixels.
    """

    isa: DotIsa
    channels: int
    pixels: int
    lanes: int
    dtypes: tuple[str, str]
    """Of the input and the result."""
    clamp: Bounds
    gated: bool = False
    from_sums: bool = False
    absolute: bool = False

    @classmethod
    def of(
        cls, isa: DotIsa, *_: Any, pixels: int, sums: int | None = None, **asked: Any
    ) -> ChannelMean:
        """``sums``: how many partial sums ``x`` holds of each channel; None: its pixels."""
        lanes = sums or min(isa.lanes, 1 << (pixels.bit_length() - 1))
        return cls(isa, pixels=pixels, lanes=lanes, from_sums=sums is not None, **asked)

    def parameters(self) -> list[Parameter]:
        x = INT32 if self.from_sums else self.dtypes[0]
        lists = list_parameters("in") if self.gated else []
        return [("x", x), ("factor", FLOAT32), ("y", self.dtypes[1]), *lists]

    def constants(self, attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {"factor": np.array([attributes["factor"]], np.float32)}

    def _body(self, x: Buffer, factor: Buffer, y: Buffer, **lists: Buffer) -> None:
        lanes = self.lanes
        count = self.lanes if self.from_sums else self.pixels
        if self.gated:
            fill(y, 0, 0, self.channels, self.isa.lanes, y.dtype)
        channels, nth = visited(self.channels, *lists.values())
        with loop(channels) as j:
            channel = let(nth(j))
            start = let(channel * count)
            acc = cleared(lanes, lanes)
            if count // lanes:
                with loop(count // lanes) as i:
                    value = self._value(x, start + i * lanes, lanes)
                    store(acc, 0, load(acc, 0, lanes) + value, lanes)
            total = tir.lane_sum(load(acc, 0, lanes), lanes)
            for i in range(count - count % lanes, count):
                total = let(total + self._value(x, start + i, 1))
            mean = apart(wide(total, 1, FLOAT32) * factor[0], 1)
            store_codes(y, channel, code(self.isa, mean, self.clamp, 1), 1)

    def _value(self, x: Buffer, at: Expr, lanes: int) -> Expr:
        if self.from_sums:
            return load(x, at, lanes)
        value = load_codes(x, at, lanes, INT32)
        return tirx.Max(value, -value) if self.absolute else value
