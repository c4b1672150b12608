"""Operators that go along a dimension in order: running sums, sorting, the k largest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from headgate.compile.front.graph import Value
from headgate.compile.front.operators.layout import strided
from headgate.compile.front.operators.pointwise import pointwise
from headgate.compile.front.operators.scalar import Expr
from headgate.compile.front.reading import Call


def running(call: Call, kind: str, x: Value, axis: int, suffix: str = "") -> Value:
    """What ``kind`` (add, mul) makes of all numbers up to each along ``axis``."""
    return call.node("scan", [x], x.shape, suffix=suffix, dtype=x.dtype, axis=axis, function=kind)


def _running(kind: str, call: Call) -> Value:
    x = call["self"]
    call["dtype"]
    if x.dtype != call.dtype:
        x = pointwise(call, lambda v: v, [x], suffix=".converted")
    axis = int(call["dim"])
    return running(call, kind, x, axis % len(x.shape)) if x.shape else x


def _ordered(call: Call, descending: bool) -> list[Value]:
    """``self`` sorted along ``dim``, equal numbers in their order, and the places they had."""
    x: Value = call["self"]
    if not x.shape:
        raise call.refused("for a single number", "leave it out")
    axis, last = int(call["dim"]) % len(x.shape), len(x.shape) - 1
    # The kernel sorts rows: another dimension is exchanged with the last, before and after.
    rows = _exchanged(call, x, axis, last, ".rows")
    places = call.node(
        "sort", [rows], rows.shape, suffix=".sort", dtype="int64", descending=descending
    )
    order = _exchanged(call, places, axis, last, ".order")

    def element(readers: Sequence[Any], *out: Expr) -> Expr:
        return readers[0](*out[:axis], readers[1](*out), *out[axis + 1 :])

    values = call.compute([x, order], element, x.shape, suffix=".sorted", dtype=x.dtype)
    return [values, order]


def _exchanged(call: Call, x: Value, a: int, b: int, suffix: str) -> Value:
    """``x`` with two dimensions exchanged."""
    if a == b:
        return x

    def exchanged(*indices: Any) -> list[Any]:
        found = list(indices)
        found[a], found[b] = found[b], found[a]
        return found

    return call.moved(x, exchanged, exchanged(*x.shape), suffix=suffix)


def _sort(call: Call) -> list[Value]:
    if call.has("stable"):
        call["stable"]  # it always is
    return _ordered(call, bool(call["descending"]))


def _topk(call: Call) -> list[Value]:
    call["k"], call["sorted"]  # the shape says how many; in order they are as good as in none
    found = zip(_ordered(call, bool(call["largest"])), (".top", ".places"), strict=True)
    axis = int(call["dim"]) % len(call.shape)
    return [strided(call, value, axis, 0, 1, call.shape, suffix) for value, suffix in found]


HANDLERS: dict[str, Callable[[Call], Any]] = {
    "aten.cumprod.default": partial(_running, "mul"),
    "aten.cumsum.default": partial(_running, "add"),
    "aten.sort.default": _sort,
    "aten.sort.stable": _sort,
    "aten.topk.default": _topk,
}
