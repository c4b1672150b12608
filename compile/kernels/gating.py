"""What a gate needs at run time: channel means, the top k, and lists of active channels.

A list holds every channel, the active ones first, both parts ascending; a count says how many are
active. Planes of inactive channels stay where they are and are simply not visited.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.tirx import PrimFunc

from headgate.compile.kernels import tir
from headgate.compile.kernels.tir import Buffer, Expr, let, load, local, loop, splat, store

_SMALLEST = -(1 << 31)


def _int(value: int) -> Expr:
    return tirx.IntImm("int32", value)


def lane_sum(vector: Expr, lanes: int) -> Expr:
    """The sum of a vector's lanes."""
    while lanes > 1:
        lanes //= 2
        low = [_int(i) for i in range(lanes)]
        high = [_int(lanes + i) for i in range(lanes)]
        vector = let(tir.T.Shuffle([vector], low) + tir.T.Shuffle([vector], high))
    return vector


@dataclass(frozen=True)
class ChannelMean:
    """The mean over the pixels of each channel; zero for those that are inactive.

    ``from_sums``: ``x`` holds ``lanes`` partial sums of each channel instead of its pixels.
    """

    channels: int
    pixels: int
    lanes: int
    gated: bool = False
    from_sums: bool = False
    absolute: bool = False

    def parameters(self) -> list[tuple[str, str]]:
        lists = [("in_list", "int32"), ("in_count", "int32")] if self.gated else []
        return [("x", "float32"), ("y", "float32"), *lists]

    def build(self, name: str) -> PrimFunc:
        return tir.prim_func(name, self.parameters(), self._body)

    def _body(self, x: Buffer, y: Buffer, *lists: Buffer) -> None:
        lanes = self.lanes
        count = self.lanes if self.from_sums else self.pixels
        if self.gated:
            tir.fill(y, 0, 0.0, self.channels, lanes)
        with loop(let(lists[1][0]) if self.gated else self.channels) as j:
            channel = let(lists[0][j] if self.gated else j)
            start = let(channel * count)
            acc = local(lanes)
            store(acc, 0, splat(0, lanes), lanes)
            if count // lanes:
                with loop(count // lanes) as i:
                    value = self._value(load(x, start + i * lanes, lanes))
                    store(acc, 0, load(acc, 0, lanes) + value, lanes)
            total = lane_sum(load(acc, 0, lanes), lanes)
            for i in range(count - count % lanes, count):
                total = let(total + self._value(x[start + i]))
            store(y, channel, total * splat(1.0 / self.pixels, 1))

    def _value(self, value: Expr) -> Expr:
        return tir.maximum(value, -value) if self.absolute else value


@dataclass(frozen=True)
class KeepTopK:
    """Keeps what is greater than the (k+1)-th largest number, zeroes the rest.

    The threshold is found bit by bit on integers that order as the numbers do, so the time does
    not depend on the data.
    """

    channels: int
    keep: int
    lanes: int

    def parameters(self) -> list[tuple[str, str]]:
        return [("x", "float32"), ("y", "float32")]

    def build(self, name: str) -> PrimFunc:
        return tir.prim_func(name, self.parameters(), self._body)

    def _body(self, x: Buffer, y: Buffer) -> None:
        lanes = self.lanes
        vectors = -(-self.channels // lanes)
        keys = local(vectors * lanes, "int32")
        for i in range(self.channels, vectors * lanes):
            store(keys, i, _int(_SMALLEST))
        with loop(self.channels) as c:
            bits = let(tir.T.reinterpret("int32", x[c]))
            sign = tir.T.shift_right(bits, _int(31))
            store(keys, c, tir.tirx.bitwise_xor(bits, tir.T.bitwise_and(sign, _int(0x7FFFFFFF))))
        prefix = local(1, "int32")
        store(prefix, 0, _int(_SMALLEST))
        with loop(32) as step:
            # The topmost bit is the sign: adding it to the smallest number gives zero.
            bit = tir.T.shift_left(_int(1), 31 - step)
            candidate = let(tirx.Select(step == 0, _int(0), prefix[0] + bit))
            found = local(lanes, "int32")
            wide = tir.T.broadcast(_int(0), lanes)
            store(found, 0, wide, lanes)
            with loop(vectors) as v:
                hit = load(keys, v * lanes, lanes) >= tir.T.broadcast(candidate, lanes)
                one = tirx.Select(hit, tir.T.broadcast(_int(1), lanes), wide)
                store(found, 0, load(found, 0, lanes) + one, lanes)
            total = lane_sum(load(found, 0, lanes), lanes)
            with tir.when(total >= self.keep + 1):
                store(prefix, 0, candidate)
        with loop(self.channels) as c:
            kept = keys[c] > prefix[0]
            store(y, c, tirx.Select(kept, x[c], tirx.FloatImm("float32", 0.0)))


def _write_list(channels: int, active, out_list: Buffer, out_count: Buffer) -> None:
    """Appends without branches; one slot past the end takes the last write of the second pass."""
    n = local(1, "int32")
    store(n, 0, _int(0))
    for wanted in (True, False):
        with loop(channels) as c:
            store(out_list, n[0], c)
            hit = active(c) if wanted else tirx.Not(active(c))
            store(n, 0, n[0] + tirx.Select(hit, _int(1), _int(0)))
        if wanted:
            store(out_count, 0, n[0])


@dataclass(frozen=True)
class ListActive:
    """The channels whose gate is not zero."""

    channels: int

    def parameters(self) -> list[tuple[str, str]]:
        return [("gate", "float32"), ("out_list", "int32"), ("out_count", "int32")]

    def build(self, name: str) -> PrimFunc:
        return tir.prim_func(name, self.parameters(), self._body)

    def _body(self, gate: Buffer, out_list: Buffer, out_count: Buffer) -> None:
        zero = tirx.FloatImm("float32", 0.0)
        _write_list(self.channels, lambda c: gate[c] != zero, out_list, out_count)


@dataclass(frozen=True)
class MergeLists:
    """The list of a tensor made of several: their union (a sum) or their sequence (a concat).

    ``offsets``: where each source's channels begin in the result, all zero for a union.
    """

    channels: int
    sources: tuple[int, ...]
    offsets: tuple[int, ...]
    gated: tuple[bool, ...]
    """Sources without a list are active throughout."""

    def parameters(self) -> list[tuple[str, str]]:
        names = [("out_list", "int32"), ("out_count", "int32")]
        for i, gated in enumerate(self.gated):
            names += [(f"list{i}", "int32"), (f"count{i}", "int32")] if gated else []
        return names

    def build(self, name: str) -> PrimFunc:
        return tir.prim_func(name, self.parameters(), self._body)

    def _body(self, out_list: Buffer, out_count: Buffer, *lists: Buffer) -> None:
        mask = local(self.channels, "int32")
        with loop(self.channels) as c:
            store(mask, c, _int(0))
        position = 0
        for size, offset, gated in zip(self.sources, self.offsets, self.gated, strict=True):
            if gated:
                channels, count = lists[position : position + 2]
                position += 2
                with loop(let(count[0])) as j:
                    store(mask, channels[j] + offset, _int(1))
            else:
                with loop(size) as j:
                    store(mask, j + offset, _int(1))
        _write_list(self.channels, lambda c: mask[c] != 0, out_list, out_count)
