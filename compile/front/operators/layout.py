"""Operators that move numbers: shapes, slices, concatenation, padding, repetition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import tirx

from headgate.compile.front.graph import Value
from headgate.compile.front.operators import scalar
from headgate.compile.front.operators.pointwise import broadcast
from headgate.compile.front.operators.scalar import Expr
from headgate.compile.front.reading import Call


def _reshape(call: Call) -> Value:
    """The same numbers in the shape that PyTorch found."""
    for name in ("dim", "size"):
        if call.has(name):
            call[name]
    return call.reshape(call["self"], call.shape)


def _permute(call: Call) -> Value:
    x = call["self"]
    order = [int(d) % len(x.shape) for d in call["dims"]]
    if [d for d in order if x.shape[d] != 1] == [d for d in range(len(order)) if x.shape[d] != 1]:
        return call.reshape(x, call.shape)  # only dimensions of one move
    return call.moved(x, lambda *out: [out[order.index(axis)] for axis in range(len(order))])


def _expand(call: Call) -> Value:
    x = call["self"]
    call["size"], call["implicit"]
    if x.shape == call.shape:
        return x
    if x.size == np.prod(call.shape):
        return call.reshape(x, call.shape)
    return call.moved(x, lambda *out: broadcast(out, x.shape))


def _repeat(call: Call) -> Value:
    x = call["self"]
    call["repeats"]

    def place(*out: Expr) -> list[Expr]:
        last = out[len(out) - len(x.shape) :]
        return [0 if n == 1 else tirx.floormod(i, n) for i, n in zip(last, x.shape, strict=True)]

    return call.moved(x, place)


def _slice(call: Call) -> Value:
    x = call["self"]
    axis = int(call["dim"]) % len(x.shape)
    size, start, _, step = x.shape[axis], int(call["start"] or 0), call["end"], int(call["step"])
    start = min(max(start + size if start < 0 else start, 0), size)
    return strided(call, x, axis, start, step, call.shape)


def strided(
    call: Call, x: Value, axis: int, start: int, step: int, shape: Sequence[int], suffix: str = ""
) -> Value:
    """Every ``step``-th entry of ``axis`` from ``start`` on, in a result of ``shape``."""
    if tuple(shape) == x.shape and start == 0:
        return x
    return call.moved(
        x,
        lambda *out: [*out[:axis], out[axis] * step + start, *out[axis + 1 :]],
        shape,
        suffix=suffix,
    )


def _select(call: Call) -> Value:
    x, axis, index = call["self"], int(call["dim"]), int(call["index"])
    axis %= len(x.shape)
    index += x.shape[axis] if index < 0 else 0
    return call.moved(x, lambda *out: [*out[:axis], index, *out[axis:]])


def _split(call: Call) -> list[Value]:
    x, axis = call["self"], int(call["dim"]) % len(call["self"].shape)
    parts, start = [], 0
    for number, size in enumerate(int(n) for n in call["split_sizes"]):
        shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        parts.append(strided(call, x, axis, start, 1, shape, f".{number}"))
        start += size
    return parts


def _cat(call: Call) -> Value:
    values = [v for v in call["tensors"] if v.size]
    axis = int(call["dim"]) % len(call.shape)
    return concatenated(call, values, axis)


def concatenated(call: Call, values: Sequence[Value], axis: int) -> Value:
    """``values`` one after the other along ``axis``."""
    if len(values) == 1:
        return values[0]
    if any(v.dtype != call.dtype for v in values):
        values = [
            call.compute(
                [v],
                lambda readers, *indices: scalar.cast(readers[0](*indices), call.dtype),
                v.shape,
                suffix=f".part{i}",
            )
            for i, v in enumerate(values)
        ]
    if call.dtype == "float32":
        return call.node("concat", values, axis=axis)
    ends = np.cumsum([v.shape[axis] for v in values])

    def element(readers: Sequence[Any], *out: Expr) -> Expr:
        found = None
        for reader, end, value in reversed(list(zip(readers, ends, values, strict=True))):
            here = list(out)
            here[axis] = out[axis] - int(end - value.shape[axis])
            own = reader(*here)
            found = own if found is None else scalar.guarded(out[axis] < int(end), own, found)
        return found

    return call.compute(values, element)


def _pad(call: Call) -> Value:
    x, value = call["self"], call["value"]
    amounts = [int(n) for n in call["pad"]]
    before = [0] * len(x.shape)
    for i in range(len(amounts) // 2):
        before[len(x.shape) - 1 - i] = amounts[2 * i]
    return padded(call, x, before, call.shape, value)


def padded(
    call: Call,
    x: Value,
    before: Sequence[int],
    shape: Sequence[int],
    value: float,
    suffix: str = "",
) -> Value:
    """``x`` moved by ``before`` in a result of ``shape``, with ``value`` around it."""

    def element(readers: Sequence[Any], *indices: Expr) -> Expr:
        source, inside = [], []
        for index, start, size, whole in zip(indices, before, x.shape, shape, strict=True):
            source.append(index - start)
            if start > 0:
                inside.append(index >= start)
            if start + size < whole:
                inside.append(index < start + size)
        return scalar.within(inside, readers[0](*source), scalar.immediate(value, x.dtype))

    return call.compute([x], element, shape, suffix=suffix, dtype=x.dtype)


def _flip(call: Call) -> Value:
    x = call["self"]
    flipped = {int(d) % len(x.shape) for d in call["dims"]}
    return call.moved(
        x, lambda *out: [x.shape[a] - 1 - i if a in flipped else i for a, i in enumerate(out)]
    )


def _unfold(call: Call) -> Value:
    """Windows of ``size`` numbers along a dimension, each in a last dimension of its own."""
    x = call["self"]
    axis, step = int(call["dimension"]) % len(x.shape), int(call["step"])
    call["size"]
    return call.moved(
        x, lambda *out: [*out[:axis], out[axis] * step + out[-1], *out[axis + 1 : -1]]
    )


def _as_strided(call: Call) -> Value:
    """Numbers at places of the memory behind ``self``, in the order in which PyTorch stores it."""
    x, steps = call["self"], [int(n) for n in call["stride"]]
    sizes, given = [int(n) for n in call["size"]], call["storage_offset"]
    traced = call.fx.args[0].meta["val"]  # type: ignore[union-attr]
    offset = 0 if given is None else int(given) - traced.storage_offset()
    stored = traced.stride()
    order = sorted((a for a in range(len(x.shape)) if x.shape[a] > 1), key=lambda a: -stored[a])
    last = offset + sum((n - 1) * s for n, s in zip(sizes, steps, strict=True))
    dense = [int(np.prod([x.shape[a] for a in order[i + 1 :]])) for i in range(len(order))]
    if [stored[a] for a in order] != dense or last >= x.size or offset < 0:
        raise call.refused("as it reads memory that is not one whole tensor")

    def place(*out: Expr) -> list[Expr]:
        flat: Expr = tirx.const(offset, "int32")
        for index, step in zip(out, steps, strict=True):
            flat = flat + index * step
        source: list[Expr] = [0] * len(x.shape)
        for axis in order:
            source[axis] = tirx.floordiv(flat, stored[axis])
            flat = tirx.floormod(flat, stored[axis])
        return source

    return call.moved(x, place)


def _diagonal(call: Call) -> Value:
    x, offset = call["self"], int(call["offset"])
    first, second = (int(call[d]) % len(x.shape) for d in ("dim1", "dim2"))

    def place(*out: Expr) -> list[Expr]:
        *others, along = out
        for axis, start in sorted([(first, max(-offset, 0)), (second, max(offset, 0))]):
            others.insert(axis, along + start)
        return others

    return call.moved(x, place)


def _full_like(call: Call) -> Value:
    call["self"], call["dtype"]
    return call.constant(np.full(call.shape, call["fill_value"], call.dtype))


HANDLERS: dict[str, Callable[[Call], Any]] = {
    "aten.as_strided.default": _as_strided,
    "aten.cat.default": _cat,
    "aten.constant_pad_nd.default": _pad,
    "aten.diagonal.default": _diagonal,
    "aten.expand.default": _expand,
    "aten.flip.default": _flip,
    "aten.full_like.default": _full_like,
    "aten.permute.default": _permute,
    "aten.repeat.default": _repeat,
    "aten.select.int": _select,
    "aten.slice.Tensor": _slice,
    "aten.split_with_sizes.default": _split,
    "aten.unfold.default": _unfold,
    **{f"aten.squeeze.{form}": _reshape for form in ("default", "dim", "dims")},
    **{f"aten.{name}.default": _reshape for name in ("unsqueeze", "view")},
}
