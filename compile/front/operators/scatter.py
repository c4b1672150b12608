"""Operators that write numbers at places that other tensors say: each result asks who wrote it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tvm import te, tirx

from headgate.compile.front.graph import Value
from headgate.compile.front.operators import scalar
from headgate.compile.front.operators.indexing import checked, chosen, entry, given_indices, is_mask
from headgate.compile.front.operators.ordering import running
from headgate.compile.front.operators.pointwise import broadcast, pointwise
from headgate.compile.front.operators.reductions import LARGEST, MULTIPLY, SMALLEST
from headgate.compile.front.operators.scalar import Expr
from headgate.compile.front.reading import Call

_MISSING = -1


class _Scatter:
    """``scatter`` along one dimension: entry k of the index names a place of the result."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.x: Value = call["self"]
        if not self.x.shape:
            raise call.refused("for a single number", "leave it out")
        self.axis = int(call["dim"]) % len(self.x.shape)
        self.index = checked(call, call["index"], self.x.shape[self.axis])

    def over(
        self,
        reduce: Callable[..., Expr],
        read: Callable[[Expr, Expr], Expr],
        missing: Any,
        dtype: str,
        suffix: str,
        source: Value | None = None,
    ) -> Value:
        """``reduce`` of ``read(k, source)`` over the entries k that name a place."""
        index, axis, size = self.index, self.axis, self.x.shape[self.axis]

        def element(readers: Sequence[Any], *out: Expr) -> Expr:
            k = te.reduce_axis((0, index.shape[axis]), name="k")
            at = [k if a == axis else i for a, i in enumerate(out)]
            inside = [
                out[a] < n for a, n in enumerate(index.shape) if a != axis and n < self.x.shape[a]
            ]
            named = tirx.EQ(entry(readers[0](*at), index, size), out[axis])
            given = read(k, None if source is None else readers[1](*at))
            nothing = scalar.immediate(missing, dtype)
            value = scalar.guarded(named, scalar.cast(given, dtype), nothing)
            return reduce(scalar.within(inside, value, nothing), axis=k)

        inputs = [index] if source is None else [index, source]
        place: dict[str, Any] = {"shape": self.x.shape, "suffix": suffix, "dtype": dtype}
        return self.call.compute(inputs, element, reduces=True, **place)

    def last(self) -> Value:
        """The last entry that names a place, or -1."""
        return self.over(te.max, lambda k, _: k, _MISSING, "int32", ".writer")

    def count(self) -> Value:
        return self.over(te.sum, lambda k, _: 1, 0, "int32", ".count")


def _scatter_source(call: Call) -> Value:
    scatter, source = _Scatter(call), call["src"]

    def element(readers: Sequence[Any], *out: Expr) -> Expr:
        writer = readers[1](*out)
        at = [*out[: scatter.axis], writer, *out[scatter.axis + 1 :]]
        return scalar.guarded(writer >= 0, readers[2](*at), readers[0](*out))

    return call.compute([scatter.x, scatter.last(), source], element, rereads=True)


def _scatter_value(call: Call) -> Value:
    scatter = _Scatter(call)
    value = scalar.immediate(call["value"], call.dtype)

    def element(readers: Sequence[Any], *out: Expr) -> Expr:
        return scalar.select(readers[1](*out) >= 0, value, readers[0](*out))

    return call.compute([scatter.x, scatter.last()], element)


def _scatter_add(call: Call) -> Value:
    scatter = _Scatter(call)
    total = scatter.over(te.sum, lambda _, v: v, 0, call.dtype, ".total", call["src"])
    return pointwise(call, lambda a, b: a + b, [scatter.x, total])


_REDUCTIONS: dict[str, tuple[Callable[..., Expr], Any, Callable[[Expr, Expr], Expr]]] = {
    "sum": (te.sum, 0, lambda a, b: a + b),
    "mean": (te.sum, 0, lambda a, b: a + b),
    "prod": (MULTIPLY, 1, lambda a, b: a * b),
    "amax": (LARGEST, -np.inf, scalar.maximum),
    "amin": (SMALLEST, np.inf, scalar.minimum),
}


def _scatter_reduce(call: Call) -> Value:
    scatter, kind, itself = _Scatter(call), call["reduce"], bool(call["include_self"])
    if not call.dtype.startswith("float"):
        raise call.refused(f"for numbers of type {call.dtype}")
    reduce, missing, combine = _REDUCTIONS[kind]
    value = scatter.over(reduce, lambda _, v: v, missing, call.dtype, ".reduced", call["src"])
    count = scatter.count()

    def element(readers: Sequence[Any], *out: Expr) -> Expr:
        own, written, writers = (reader(*out) for reader in readers)
        result = combine(own, written) if itself else written
        if kind == "mean":
            result = result / scalar.cast(writers + int(itself), call.dtype)
        return scalar.select(writers > 0, result, own)

    return call.compute([scatter.x, value, count], element)


def _index_put(call: Call) -> Value:
    x, values, given = call["self"], call["values"], given_indices(call)
    if any(is_mask(v) for v in given.values()):
        return _masked_put(call, x, given, values)
    by_axis, shape, first = chosen(call, given)
    axes, indices = list(by_axis), list(by_axis.values())
    count = int(np.prod(shape))

    def entries(k: Expr) -> list[Expr]:
        """The index of entry k of the flattened indices."""
        found: list[Expr] = []
        for size in reversed(shape):
            found.insert(0, tirx.floormod(k, size))
            k = tirx.floordiv(k, size)
        return found

    def hit(readers: Sequence[Any], at: list[Expr], out: Sequence[Expr]) -> Expr:
        conditions = [
            tirx.EQ(entry(r(*broadcast(at, v.shape)), v, x.shape[a]), o)
            for r, v, a, o in zip(readers, indices, axes, out, strict=True)
        ]
        return scalar.every(conditions)

    def value_at(reader: Any, at: list[Expr], out: Sequence[Expr]) -> Expr:
        others = [o for a, o in enumerate(out) if a not in axes]
        return reader(*broadcast([*others[:first], *at, *others[first:]], values.shape))

    if call["accumulate"]:

        def added(readers: Sequence[Any], *out: Expr) -> Expr:
            k = te.reduce_axis((0, count), name="k")
            at = entries(k)
            condition = hit(readers[1:], at, [out[a] for a in axes])
            zero = scalar.immediate(0, call.dtype)
            value = scalar.cast(value_at(readers[0], at, out), call.dtype)
            return te.sum(scalar.guarded(condition, value, zero), axis=k)

        total = call.compute([values, *indices], added, reduces=True, suffix=".total")
        return pointwise(call, lambda a, b: a + b, [x, total])

    def last(readers: Sequence[Any], *out: Expr) -> Expr:
        k = te.reduce_axis((0, count), name="k")
        missing = tirx.const(_MISSING, "int32")
        return te.max(scalar.guarded(hit(readers, entries(k), out), k, missing), axis=k)

    named = [x.shape[a] for a in axes]
    writer = call.compute(indices, last, named, reduces=True, suffix=".writer", dtype="int32")

    def put(readers: Sequence[Any], *out: Expr) -> Expr:
        k = readers[1](*(out[a] for a in axes))
        value = scalar.cast(value_at(readers[2], entries(k), out), call.dtype)
        return scalar.guarded(k >= 0, value, readers[0](*out))

    return call.compute([x, writer, values], put, rereads=True)


def _masked_put(call: Call, x: Value, given: Mapping[int, Value], values: Value) -> Value:
    """``x[mask] = value``: of one number, whose result has the shape of ``x``."""
    mask = given.get(0)
    if mask is None or len(given) > 1 or values.size != 1:
        raise call.refused("with this mask, whose numbers have no fixed place", "use torch.where")
    if call["accumulate"]:
        raise call.refused("with a mask and accumulate=True", "use torch.where")
    rank = len(mask.shape)

    def element(readers: Sequence[Any], *out: Expr) -> Expr:
        value = readers[2](*(0,) * len(values.shape))
        return scalar.select(readers[1](*out[:rank]), value, readers[0](*out))

    return call.compute([x, mask, values], element)


def _masked_scatter(call: Call) -> Value:
    """The places where the mask holds get the numbers of ``source`` one after the other."""
    source = call["source"]
    x, full = (
        value
        if value.shape == call.shape
        else call.compute(
            [value],
            lambda readers, *out, value=value: readers[0](*broadcast(out, value.shape)),
            suffix=f".{name}",
            dtype=value.dtype,
        )
        for name, value in (("self", call["self"]), ("mask", call["mask"]))
    )
    flat_mask = call.reshape(full, (x.size,), ".flat")
    ones = pointwise(
        call, lambda v: v, [flat_mask], "int32", (x.size,), suffix=".ones", dtype="int32"
    )
    order = running(call, "add", ones, 0, ".order")
    shaped = call.reshape(order, x.shape, ".places")
    flat = call.reshape(source, (source.size,), ".source")

    def element(readers: Sequence[Any], *out: Expr) -> Expr:
        place = readers[2](*out) - 1
        return scalar.guarded(readers[1](*out), readers[3](place), readers[0](*out))

    return call.compute([x, full, shaped, flat], element, rereads=True)


HANDLERS: dict[str, Callable[[Call], Any]] = {
    "aten.index_put.default": _index_put,
    "aten.masked_scatter.default": _masked_scatter,
    "aten.scatter.src": _scatter_source,
    "aten.scatter.value": _scatter_value,
    "aten.scatter_add.default": _scatter_add,
    "aten.scatter_reduce.two": _scatter_reduce,
}
