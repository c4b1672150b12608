"""A function of single numbers as a table of what it makes of each code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from headgate.compile.isa.vector import read_as
from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.lists import list_parameters
from headgate.compile.kernels.tir import Buffer, Expr, let, load, loop, store
from headgate.device.tensor_type import INT32, UINT8

CODES = 256


@dataclass(frozen=True)
class Table(Kernel):
    """``y = table[x]``, with a table for all channels or one for each; all or active planes."""

    channels: int
    pixels: int
    dtypes: tuple[str, str]
    by_channel: bool
    gated: bool = False

    @classmethod
    def of(cls, *_: Any, **asked: Any) -> Table:
        return cls(**asked)

    def parameters(self) -> list[Parameter]:
        lists = list_parameters("in") if self.gated else []
        x, y = self.dtypes
        return [("x", x), ("table", y), ("y", y), *lists]

    def constants(self, attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {"table": attributes["table"]}

    def _body(self, x: Buffer, table: Buffer, y: Buffer, **lists: Buffer) -> None:
        def move(start: Expr, own: Expr, count: int) -> None:
            with loop(count) as i:
                byte = read_as(UINT8, 1, load(x, start + i))
                store(y, start + i, table[own + tirx.Cast(INT32, byte)])

        if not self.gated and not self.by_channel:
            move(0, 0, self.channels * self.pixels)
            return
        count = let(lists["in_count"][0]) if self.gated else self.channels
        with loop(count) as j:
            channel = let(lists["in_list"][j]) if self.gated else j
            own = let(channel * CODES) if self.by_channel else 0
            move(let(channel * self.pixels), own, self.pixels)
