"""What a gate needs at run time: channel means, the top k, and which channels are active."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx

from headgate.compile.isa import Isa
from headgate.compile.kernels import tir
from headgate.compile.kernels.float.words import (
    SAME,
    Dtypes,
    floats,
    local,
    read,
    splat,
    write,
)
from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.lists import list_parameters, visited, write_list
from headgate.compile.kernels.tir import Buffer, Expr, fill, int32, let, load, loop, store
from headgate.device.tensor_type import INT32

_SMALLEST = -(1 << 31)


def _floor_power(number: int) -> int:
    """The largest power of two up to ``number``."""
    return 1 << (max(1, number).bit_length() - 1)


@dataclass(frozen=True)
class ChannelMean(Kernel):
    """The mean over the pixels of each channel; zero for those that are inactive.

    ``from_sums``: ``x`` holds ``lanes`` partial sums of each channel instead of its pixels.
    """

    channels: int
    pixels: int
    lanes: int
    gated: bool = False
    from_sums: bool = False
    absolute: bool = False
    dtypes: Dtypes = SAME

    @classmethod
    def of(cls, isa: Isa, *, pixels: int, sums: int | None = None, **asked: Any) -> ChannelMean:
        """``sums``: how many partial sums ``x`` holds of each channel; None: its pixels."""
        lanes = sums or min(isa.lanes, _floor_power(pixels))
        return cls(pixels=pixels, lanes=lanes, from_sums=sums is not None, **asked)

    def parameters(self) -> list[Parameter]:
        x = floats("x", dtypes=SAME if self.from_sums else self.dtypes)
        lists = list_parameters("in") if self.gated else []
        return [*x, *floats("y", dtypes=self.dtypes), *lists]

    def _body(self, x: Buffer, y: Buffer, **lists: Buffer) -> None:
        lanes = self.lanes
        count = self.lanes if self.from_sums else self.pixels
        if self.gated:
            fill(y, 0, 0.0, self.channels, lanes, y.dtype)
        channels, nth = visited(self.channels, *lists.values())
        with loop(channels) as j:
            channel = let(nth(j))
            start = let(channel * count)
            acc = local(lanes)
            store(acc, 0, splat(0, lanes), lanes)
            if count // lanes:
                with loop(count // lanes) as i:
                    value = self._value(read(x, start + i * lanes, lanes))
                    store(acc, 0, load(acc, 0, lanes) + value, lanes)
            total = tir.lane_sum(load(acc, 0, lanes), lanes)
            for i in range(count - count % lanes, count):
                total = let(total + self._value(read(x, start + i)))
            write(y, channel, total * splat(1.0 / self.pixels, 1))

    def _value(self, value: Expr) -> Expr:
        return tir.maximum(value, -value) if self.absolute else value


@dataclass(frozen=True)
class KeepTopK(Kernel):
    """Keeps what is greater than the (k+1)-th largest number, zeroes the rest.

    The threshold is found bit by bit on integers that order as the numbers do, so the time does
    not depend on the data.
    """

    channels: int
    keep: int
    lanes: int

    @classmethod
    def of(cls, isa: Isa, *, channels: int, keep: int) -> KeepTopK:
        return cls(channels, keep, min(isa.lanes, max(isa.narrowest, _floor_power(channels))))

    def parameters(self) -> list[Parameter]:
        return floats("x", "y")

    def _body(self, x: Buffer, y: Buffer) -> None:
        lanes = self.lanes
        vectors = -(-self.channels // lanes)
        keys = tir.local(vectors * lanes, INT32)
        for i in range(self.channels, vectors * lanes):
            store(keys, i, int32(_SMALLEST))
        with loop(self.channels) as c:
            bits = let(tir.T.reinterpret(INT32, x[c]))
            sign = tir.T.shift_right(bits, int32(31))
            store(keys, c, tir.tirx.bitwise_xor(bits, tir.T.bitwise_and(sign, int32(0x7FFFFFFF))))
        prefix = tir.local(1, INT32)
        store(prefix, 0, int32(_SMALLEST))
        with loop(32) as step:
            # The topmost bit is the sign: adding it to the smallest number gives zero.
            bit = tir.T.shift_left(int32(1), 31 - step)
            candidate = let(tirx.Select(step == 0, int32(0), prefix[0] + bit))
            found = tir.local(lanes, INT32)
            wide = tir.T.broadcast(int32(0), lanes)
            store(found, 0, wide, lanes)
            with loop(vectors) as v:
                hit = load(keys, v * lanes, lanes) >= tir.T.broadcast(candidate, lanes)
                one = tirx.Select(hit, tir.T.broadcast(int32(1), lanes), wide)
                store(found, 0, load(found, 0, lanes) + one, lanes)
            total = tir.lane_sum(load(found, 0, lanes), lanes)
            with tir.when(total >= self.keep + 1):
                store(prefix, 0, candidate)
        with loop(self.channels) as c:
            kept = keys[c] > prefix[0]
            store(y, c, tirx.Select(kept, x[c], splat(0, 1)))


@dataclass(frozen=True)
class ListActive(Kernel):
    """The channels whose gate is not zero."""

    channels: int

    @classmethod
    def of(cls, isa: Isa, *, channels: int) -> ListActive:
        return cls(channels)

    def parameters(self) -> list[Parameter]:
        return [*floats("gate"), *list_parameters("out")]

    def _body(self, gate: Buffer, out_list: Buffer, out_count: Buffer) -> None:
        write_list(self.channels, lambda c: gate[c] != splat(0, 1), out_list, out_count)
