"""Pooling: over windows of one size, and over windows that share out the whole image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import numpy as np
from tvm import te, tirx

from headgate.compile.front.graph import Value
from headgate.compile.front.operators import scalar
from headgate.compile.front.operators.pointwise import pointwise
from headgate.compile.front.operators.reductions import LARGEST, Reduce, mean
from headgate.compile.front.operators.scalar import Expr
from headgate.compile.front.reading import Call, numbers


class _Windows(ABC):
    """Windows of at most ``kernel`` numbers in the last ``rank`` dimensions of a call's input."""

    kernel: tuple[int, ...]

    def __init__(self, rank: int, call: Call) -> None:
        self.call, self.rank = call, rank
        self.x: Value = call["self"]
        self.sizes, self.out = self.x.shape[-rank:], call.shape[-rank:]

    @abstractmethod
    def place(self, axis: int, output: Expr, tap: Expr) -> tuple[Expr, list[Expr]]:
        """The input's index, and the conditions that it is one."""

    def over(self, reduce: Reduce, missing: Expr, suffix: str = "") -> Value:
        """``reduce`` of every window's numbers; ``missing`` stands for those outside."""

        def element(readers: Sequence[Any], *indices: Expr) -> Expr:
            source, inside, taps = self._sources(indices)
            return reduce(scalar.within(inside, readers[0](*source), missing), axis=taps)

        return self.call.compute([self.x], element, reduces=True, suffix=suffix)

    def position(self, values: Value) -> Value:
        """Where ``values``, the largest of every window, lie in the flattened image."""

        def element(readers: Sequence[Any], *indices: Expr) -> Expr:
            source, inside, taps = self._sources(indices)
            flat: Expr = tirx.const(0, "int64")
            for size, index in zip(self.sizes, source[-self.rank :], strict=True):
                flat = flat * size + scalar.cast(index, "int64")
            same = tirx.EQ(readers[0](*source), readers[1](*indices))
            nowhere = tirx.const(int(np.prod(self.sizes)), "int64")
            # Asked first: outside there is nothing to compare with.
            found = scalar.within(inside, scalar.guarded(same, flat, nowhere), nowhere)
            return te.min(found, axis=taps)

        place: dict[str, Any] = {"suffix": ".indices", "dtype": "int64"}
        return self.call.compute([self.x, values], element, reduces=True, **place)

    def scaled_sum(self, counts: np.ndarray) -> Value:
        """The sum of every window over its count."""
        sums = self.over(te.sum, scalar.immediate(0, self.x.dtype), ".sums")
        return _scaled(self.call, sums, 1 / counts)

    def _sources(self, indices: Sequence[Expr]) -> tuple[list[Expr], list[Expr], list[Expr]]:
        """The input's indices, the conditions that they are inside, and the taps to go over."""
        taps = [te.reduce_axis((0, n), name=f"k{a}") for a, n in enumerate(self.kernel)]
        source, inside = list(indices[: -self.rank]), []
        for axis, (index, tap) in enumerate(zip(indices[-self.rank :], taps, strict=True)):
            where, conditions = self.place(axis, index, tap)
            source.append(where)
            inside += conditions
        return source, inside, taps


class _Sliding(_Windows):
    """Windows of one size, a stride apart."""

    def __init__(self, rank: int, call: Call) -> None:
        super().__init__(rank, call)
        self.kernel = numbers(call["kernel_size"], rank)
        self.stride = numbers(call["stride"], rank) if call["stride"] else self.kernel
        self.padding = numbers(call["padding"], rank)
        self.dilation = numbers(call["dilation"], rank) if call.has("dilation") else (1,) * rank
        call["ceil_mode"]  # its effect is the result's shape
        self.planar = rank == 2 and call.dtype == "float32" and len(self.x.shape) <= 4
        """Whether there is a kernel for it."""

    @property
    def one(self) -> bool:
        """Whether the only window is the plane of a channel of an image."""
        whole = tuple(self.kernel) == tuple(self.sizes) and not any(self.padding)
        return whole and self.rank == 2 and len(self.x.shape) == 4

    @property
    def after(self) -> tuple[int, ...]:
        """Padding behind the image, as much as the last window needs."""
        spans = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True)]
        axes = zip(self.out, self.stride, spans, self.sizes, self.padding, strict=True)
        return tuple(max((o - 1) * s + span - n - p, 0) for o, s, span, n, p in axes)

    def place(self, axis: int, output: Expr, tap: Expr) -> tuple[Expr, list[Expr]]:
        index = output * self.stride[axis] + tap * self.dilation[axis] - self.padding[axis]
        inside = [index >= 0] if self.padding[axis] else []
        return index, [*inside, *([index < self.sizes[axis]] if self.after[axis] else [])]

    def counts(self, border: bool) -> np.ndarray:
        """How many numbers each window has: none outside, of the padding only if it counts."""
        found = []
        for axis, padding in enumerate(self.padding):
            starts = np.arange(self.out[axis]) * self.stride[axis] - padding
            counted = padding if border else 0
            ends = np.minimum(starts + self.kernel[axis], self.sizes[axis] + counted)
            found.append(ends - np.maximum(starts, -counted))
        return reduce(np.multiply.outer, found)

    def node(self, kind: str, suffix: str = "") -> Value:
        """A node of a kernel of our own; one without a batch is a batch of one."""
        shape = (1,) * (4 - len(self.x.shape)) + self.x.shape
        x = self.x if shape == self.x.shape else self.call.reshape(self.x, shape, ".batch")
        whole = self.call.node(
            kind,
            [x],
            (*shape[:-2], *self.out),
            suffix=suffix or ("" if x is self.x else ".pooled"),
            kernel=self.kernel,
            stride=self.stride,
            padding=(*self.padding, *self.after),
            dilation=self.dilation,
        )
        return whole if x is self.x else self.call.reshape(whole, self.call.shape, suffix)


class _Sharing(_Windows):
    """The windows of adaptive pooling, which share out the image."""

    def __init__(self, rank: int, call: Call) -> None:
        super().__init__(rank, call)
        call["output_size"]  # the result's shape
        self._lengths = [
            [-(-(i + 1) * n // o) - i * n // o for i in range(o)]
            for n, o in zip(self.sizes, self.out, strict=True)
        ]
        self.kernel = tuple(max(lengths) for lengths in self._lengths)
        self.equal = all(n % o == 0 for n, o in zip(self.sizes, self.out, strict=True))

    def place(self, axis: int, output: Expr, tap: Expr) -> tuple[Expr, list[Expr]]:
        size, parts = self.sizes[axis], self.out[axis]
        index = tirx.floordiv(output * size, parts) + tap
        end = tirx.floordiv((output + 1) * size + parts - 1, parts)
        return index, [] if size % parts == 0 else [index < end]

    def counts(self) -> np.ndarray:
        return reduce(np.multiply.outer, [np.array(lengths) for lengths in self._lengths])


def _max_pool(kind: type[_Windows], rank: int, call: Call) -> list[Value]:
    windows = kind(rank, call)
    if isinstance(windows, _Sliding) and windows.planar:
        values = windows.node("max_pool2d")
    else:
        values = windows.over(LARGEST, scalar.lowest(windows.x.dtype))
    return [values, windows.position(values)]


def _avg_pool(rank: int, call: Call) -> Value:
    windows = _Sliding(rank, call)
    divisor, border = call["divisor_override"], bool(call["count_include_pad"])
    counts = windows.counts(border) if divisor is None else np.asarray(divisor)
    if not windows.planar:
        return windows.scaled_sum(counts)
    taps = int(np.prod(windows.kernel))
    if np.all(counts == taps):
        return mean(call, windows.x, (2, 3), True) if windows.one else windows.node("avg_pool2d")
    return _scaled(call, windows.node("avg_pool2d", ".mean"), taps / counts)


def _adaptive_avg_pool(rank: int, call: Call) -> Value:
    windows = _Sharing(rank, call)
    x, first = windows.x, len(windows.x.shape) - rank
    if windows.out == windows.sizes:
        return x
    if set(windows.out) == {1}:
        return mean(call, x, tuple(range(first, len(x.shape))), True)
    if rank == 2 and len(x.shape) == 4 and windows.equal and call.dtype == "float32":
        geometry: dict[str, Any] = {"padding": (0, 0, 0, 0), "dilation": (1, 1)}
        size = windows.kernel
        return call.node("avg_pool2d", [x], kernel=size, stride=size, **geometry)
    return windows.scaled_sum(windows.counts())


def _scaled(call: Call, x: Value, factor: np.ndarray) -> Value:
    constant = call.constant(np.asarray(factor, call.dtype), ".factor")
    return pointwise(call, lambda v, f: v * f, [x, constant])


HANDLERS: dict[str, Callable[[Call], Any]] = {
    "aten._adaptive_avg_pool2d.default": partial(_adaptive_avg_pool, 2),
    "aten._adaptive_avg_pool3d.default": partial(_adaptive_avg_pool, 3),
    "aten.adaptive_max_pool2d.default": partial(_max_pool, _Sharing, 2),
    "aten.adaptive_max_pool3d.default": partial(_max_pool, _Sharing, 3),
    "aten.avg_pool2d.default": partial(_avg_pool, 2),
    "aten.avg_pool3d.default": partial(_avg_pool, 3),
    "aten.max_pool2d_with_indices.default": partial(_max_pool, _Sliding, 2),
    "aten.max_pool3d_with_indices.default": partial(_max_pool, _Sliding, 3),
}
