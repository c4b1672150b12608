"""Pooling: over windows of one size, and over windows that share out the whole image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import te, tirx

from headgate.compile.front.graph import Value
from headgate.compile.front.operators import scalar
from headgate.compile.front.operators.pointwise import pointwise
from headgate.compile.front.operators.reductions import LARGEST, mean
from headgate.compile.front.operators.scalar import Expr
from headgate.compile.front.reading import Call, numbers

Place = Callable[[int, Expr, Expr], tuple[Expr, list[Expr]]]
"""``place(axis, output, tap)``: the input's index, and the conditions that it is one."""


class _Windows:
    """The windows of a pooling call in its last ``rank`` dimensions."""

    def __init__(self, call: Call, rank: int) -> None:
        self.x: Value = call["self"]
        self.rank = rank
        self.sizes = self.x.shape[-rank:]
        self.out = call.shape[-rank:]
        self.kernel = numbers(call["kernel_size"], rank)
        self.stride = numbers(call["stride"], rank) if call["stride"] else self.kernel
        self.padding = numbers(call["padding"], rank)
        self.dilation = numbers(call["dilation"], rank) if call.has("dilation") else (1,) * rank
        call["ceil_mode"]  # its effect is the result's shape

    @property
    def after(self) -> tuple[int, ...]:
        """Padding behind the image, as much as the last window needs."""
        spans = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True)]
        needed = [
            (o - 1) * s + span - n - p
            for o, s, span, n, p in zip(
                self.out, self.stride, spans, self.sizes, self.padding, strict=True
            )
        ]
        return tuple(max(n, 0) for n in needed)

    def place(self, axis: int, output: Expr, tap: Expr) -> tuple[Expr, list[Expr]]:
        index = output * self.stride[axis] + tap * self.dilation[axis] - self.padding[axis]
        inside = [index >= 0] if self.padding[axis] else []
        return index, [*inside, *([index < self.sizes[axis]] if self.after[axis] else [])]

    def node(self, call: Call, kind: str, suffix: str = "") -> Value:
        """A node of a kernel of our own; one without a batch is a batch of one."""
        shape = (1,) * (4 - len(self.x.shape)) + self.x.shape
        x = self.x if shape == self.x.shape else call.reshape(self.x, shape, ".batch")
        whole = call.node(
            kind,
            [x],
            (*shape[:-2], *self.out),
            suffix=suffix or ("" if x is self.x else ".pooled"),
            kernel=self.kernel,
            stride=self.stride,
            padding=(*self.padding, *self.after),
            dilation=self.dilation,
        )
        return whole if x is self.x else call.reshape(whole, call.shape, suffix)


def _extreme(
    call: Call, x: Value, rank: int, window: Sequence[int], place: Place, suffix: str = ""
) -> Value:
    """The largest number of every window."""

    def element(readers: Sequence[Any], *indices: Expr) -> Expr:
        source, inside, taps = _sources(indices, rank, window, place)
        lowest = scalar.lowest(x.dtype)
        value = readers[0](*source)
        return LARGEST(
            scalar.guarded(scalar.every(inside), value, lowest) if inside else value, axis=taps
        )

    return call.compute([x], element, reduces=True, rereads=True, suffix=suffix)


def _position(
    call: Call, x: Value, values: Value, rank: int, window: Sequence[int], place: Place
) -> Value:
    """Where the largest number of every window lies: its place in the flattened image."""
    sizes = x.shape[-rank:]

    def element(readers: Sequence[Any], *indices: Expr) -> Expr:
        source, inside, taps = _sources(indices, rank, window, place)
        flat: Expr = tirx.const(0, "int64")
        for size, index in zip(sizes, source[-rank:], strict=True):
            flat = flat * size + scalar.cast(index, "int64")
        same = tirx.EQ(readers[0](*source), readers[1](*indices))
        nowhere = tirx.const(int(np.prod(sizes)), "int64")
        found = scalar.guarded(same, flat, nowhere)
        if inside:  # asked first: outside there is nothing to compare with
            found = scalar.guarded(scalar.every(inside), found, nowhere)
        return te.min(found, axis=taps)

    return call.compute(
        [x, values], element, reduces=True, rereads=True, suffix=".indices", dtype="int64"
    )


def _sources(
    indices: Sequence[Expr], rank: int, window: Sequence[int], place: Place
) -> tuple[list[Expr], list[Expr], list[Expr]]:
    """The input's indices, the conditions that they are inside, and the taps to go over."""
    taps = [te.reduce_axis((0, n), name=f"k{a}") for a, n in enumerate(window)]
    source, inside = list(indices[:-rank]), []
    for axis, (index, tap) in enumerate(zip(indices[-rank:], taps, strict=True)):
        where, conditions = place(axis, index, tap)
        source.append(where)
        inside += conditions
    return source, inside, taps


def _max_pool(rank: int) -> Callable[[Call], list[Value]]:
    def handler(call: Call) -> list[Value]:
        windows = _Windows(call, rank)
        x = windows.x
        if rank == 2 and x.dtype == "float32" and len(x.shape) <= 4:
            values = windows.node(call, "max_pool2d")
        else:
            values = _extreme(call, x, rank, windows.kernel, windows.place)
        return [values, _position(call, x, values, rank, windows.kernel, windows.place)]

    return handler


def _avg_pool(rank: int) -> Callable[[Call], Value]:
    def handler(call: Call) -> Value:
        windows = _Windows(call, rank)
        divisor, border = call["divisor_override"], bool(call["count_include_pad"])
        counts = _counts(windows, border) if divisor is None else np.float64(divisor)
        taps = int(np.prod(windows.kernel))
        if rank == 2 and len(windows.x.shape) <= 4 and call.dtype == "float32":
            if np.all(counts == taps):
                return windows.node(call, "avg_pool2d")
            sums, factor = windows.node(call, "avg_pool2d", ".mean"), taps / counts
        else:
            sums = _sum_of_windows(call, windows.x, rank, windows.kernel, windows.place)
            factor = 1 / counts
        scale = call.constant(np.asarray(factor, call.dtype), ".factor")
        return pointwise(call, lambda v, f: v * f, [sums, scale])

    return handler


def _counts(windows: _Windows, border: bool) -> np.ndarray:
    """How many numbers each window has: none outside, and of the padding only if it counts."""
    counts = np.ones((1,) * windows.rank)
    for axis in range(windows.rank):
        starts = np.arange(windows.out[axis]) * windows.stride[axis] - windows.padding[axis]
        low = -windows.padding[axis] if border else 0
        high = windows.sizes[axis] + (windows.padding[axis] if border else 0)
        ends = np.minimum(starts + windows.kernel[axis], high)
        count = ends - np.maximum(starts, low)
        counts = counts * count.reshape([-1 if a == axis else 1 for a in range(windows.rank)])
    return counts


def _sum_of_windows(call: Call, x: Value, rank: int, window: Sequence[int], place: Place) -> Value:
    def element(readers: Sequence[Any], *indices: Expr) -> Expr:
        source, inside, taps = _sources(indices, rank, window, place)
        value, zero = readers[0](*source), scalar.immediate(0, x.dtype)
        return te.sum(
            scalar.guarded(scalar.every(inside), value, zero) if inside else value, axis=taps
        )

    return call.compute([x], element, reduces=True, rereads=True, suffix=".sums")


def _shared_out(x: Value, out: Sequence[int]) -> tuple[tuple[int, ...], Place, np.ndarray]:
    """The windows of adaptive pooling: the largest size, their places, their counts."""
    sizes = x.shape[-len(out) :]
    bounds = [
        [(i * n // o, -(-(i + 1) * n // o)) for i in range(o)]
        for n, o in zip(sizes, out, strict=True)
    ]
    window = tuple(max(end - start for start, end in axis) for axis in bounds)

    def place(axis: int, output: Expr, tap: Expr) -> tuple[Expr, list[Expr]]:
        size, parts = sizes[axis], out[axis]
        index = tirx.floordiv(output * size, parts) + tap
        end = tirx.floordiv((output + 1) * size + parts - 1, parts)
        return index, [] if size % parts == 0 else [index < end]

    counts = np.ones((1,) * len(out))
    for a, axis in enumerate(bounds):
        lengths = np.array([end - start for start, end in axis])
        counts = counts * lengths.reshape([-1 if b == a else 1 for b in range(len(out))])
    return window, place, counts


def _adaptive_avg_pool(rank: int) -> Callable[[Call], Value]:
    def handler(call: Call) -> Value:
        x = call["self"]
        call["output_size"]
        out = call.shape[-rank:]
        if out == x.shape[-rank:]:
            return x
        if set(out) == {1}:
            first = len(x.shape) - rank
            return mean(call, x, tuple(range(first, len(x.shape))), True)
        window, place, counts = _shared_out(x, out)
        whole = all(n % o == 0 for n, o in zip(x.shape[-rank:], out, strict=True))
        if rank == 2 and len(x.shape) == 4 and whole and call.dtype == "float32":
            return call.node(
                "avg_pool2d",
                [x],
                kernel=window,
                stride=window,
                padding=(0, 0, 0, 0),
                dilation=(1, 1),
            )
        sums = _sum_of_windows(call, x, rank, window, place)
        scale = call.constant((1 / counts).astype(call.dtype), ".factor")
        return pointwise(call, lambda v, f: v * f, [sums, scale])

    return handler


def _adaptive_max_pool(rank: int) -> Callable[[Call], list[Value]]:
    def handler(call: Call) -> list[Value]:
        x = call["self"]
        call["output_size"]
        window, place, _ = _shared_out(x, call.shape[-rank:])
        values = _extreme(call, x, rank, window, place)
        return [values, _position(call, x, values, rank, window, place)]

    return handler


HANDLERS: dict[str, Callable[[Call], Any]] = {
    "aten._adaptive_avg_pool2d.default": _adaptive_avg_pool(2),
    "aten._adaptive_avg_pool3d.default": _adaptive_avg_pool(3),
    "aten.adaptive_max_pool2d.default": _adaptive_max_pool(2),
    "aten.adaptive_max_pool3d.default": _adaptive_max_pool(3),
    "aten.avg_pool2d.default": _avg_pool(2),
    "aten.avg_pool3d.default": _avg_pool(3),
    "aten.max_pool2d_with_indices.default": _max_pool(2),
    "aten.max_pool3d_with_indices.default": _max_pool(3),
}
