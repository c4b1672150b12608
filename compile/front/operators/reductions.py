"""Operators that make one number of many: sums, means, extremes and where those are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from tvm import te, tirx

from headgate.compile.front.graph import Value
from headgate.compile.front.operators import scalar
from headgate.compile.front.operators.pointwise import pointwise
from headgate.compile.front.operators.scalar import Expr
from headgate.compile.front.reading import Call, axes

Reduce = Callable[..., Expr]
MULTIPLY = te.comm_reducer(lambda a, b: a * b, lambda t: tirx.const(1, t), name="product")
LARGEST = te.comm_reducer(
    lambda a, b: scalar.maximum(a, b), lambda t: scalar.lowest(str(t)), name="largest"
)
SMALLEST = te.comm_reducer(
    lambda a, b: scalar.minimum(a, b), lambda t: scalar.highest(str(t)), name="smallest"
)


def reduced(
    call: Call,
    reduce: Reduce,
    x: Value,
    over: Sequence[int],
    keep: bool,
    *,
    read: Callable[[Expr], Expr] | None = None,
    dtype: str | None = None,
    suffix: str = "",
) -> Value:
    """``reduce`` of the numbers along the dimensions ``over``, or of what ``read`` makes of them.

    The result is of the call's dtype unless one is given.
    """
    dtype = dtype or call.dtype
    read = read or partial(scalar.cast, dtype=dtype)
    kept = [a for a in range(len(x.shape)) if a not in over]
    shape = [1 if a in over else n for a, n in enumerate(x.shape) if keep or a not in over]

    def element(readers: Sequence[Any], *indices: Expr) -> Expr:
        inner = {a: te.reduce_axis((0, x.shape[a]), name=f"r{a}") for a in over}
        outer = dict(zip(range(len(x.shape)) if keep else kept, indices, strict=True))
        value = readers[0](*(inner.get(a, outer.get(a)) for a in range(len(x.shape))))
        return reduce(read(value), axis=list(inner.values()))

    place: dict[str, Any] = {"shape": shape, "suffix": suffix, "dtype": dtype}
    if not over:
        return pointwise(call, read, [x], x.dtype, **place)
    return call.compute([x], element, reduces=True, rereads=False, **place)


def _over(call: Call, x: Value) -> tuple[tuple[int, ...], bool]:
    """The dimensions to reduce, and whether they stay as ones; those without ``dim``: all."""
    if not call.has("dim"):
        return tuple(range(len(x.shape))), False
    return axes(call["dim"], len(x.shape)), bool(call["keepdim"])


def _reduction(reduce: Reduce, call: Call) -> Value:
    if call.has("dtype"):
        call["dtype"]
    return reduced(call, reduce, call["self"], *_over(call, call["self"]))


def _mean(call: Call) -> Value:
    call["dtype"]
    return mean(call, call["self"], *_over(call, call["self"]))


def mean(call: Call, x: Value, over: Sequence[int], keep: bool, suffix: str = "") -> Value:
    """The mean along ``over``; over the pixels of images it is a kernel of its own."""
    floats = x.dtype == call.dtype == "float32"
    if floats and len(x.shape) == 4 and tuple(over) == (2, 3):
        shape = (*x.shape[:2], 1, 1) if keep else x.shape[:2]
        return call.node("channel_mean", [x], shape, suffix=suffix, absolute=False)
    count = int(np.prod([x.shape[a] for a in over]))
    whole = reduced(call, te.sum, x, over, keep, suffix=f"{suffix}.sum")
    place: dict[str, Any] = {"shape": whole.shape, "suffix": suffix, "operator": "mean"}
    return pointwise(call, lambda v: v * (1.0 / count), [whole], **place)


def _moments(call: Call) -> list[Value]:
    """Variance and mean; the first is the mean square of the distance from the second."""
    x = call["self" if call.has("self") else "inp"]
    keep = bool(call["keepdim"]) if call.has("keepdim") else False
    over = axes(call["dim" if call.has("dim") else "dims"], len(x.shape))
    correction = call["correction"]
    if call.has("output_dtype"):
        call["output_dtype"]
    count = int(np.prod([x.shape[a] for a in over]))
    divisor = max(count - (1 if correction is None else float(correction)), 0)
    middle = mean(call, x, over, True, ".mean")
    square = pointwise(
        call, lambda v, m: (v - m) * (v - m), [x, middle], shape=x.shape, suffix=".square"
    )
    whole = reduced(call, te.sum, square, over, keep, suffix=".squares")
    factor = 1.0 / divisor if divisor else np.inf
    variance = pointwise(call, lambda v: v * factor, [whole], shape=whole.shape)
    if keep or not over:
        return [variance, middle]
    return [variance, call.reshape(middle, whole.shape, ".squeezed")]


def _extreme_with_index(reduce: Reduce, call: Call) -> list[Value]:
    """max and min along one dimension: the numbers, and where the first of each is."""
    x, keep = call["self"], bool(call["keepdim"])
    x = x if x.shape else call.reshape(x, (1,), ".vector")
    over = axes(call["dim"], len(x.shape))
    values = reduced(call, reduce, x, over, True, suffix=".values")
    index = _first_where_equal(call, x, values, over, keep, ".indices")
    return [
        call.reshape(values, call.shape, ".squeezed"),
        call.reshape(index, call.shape, ".places"),
    ]


def _index_of(reduce: Reduce, call: Call) -> Value:
    """argmax and argmin, of one dimension or of the whole tensor."""
    x, keep, dim = call["self"], bool(call["keepdim"]), call["dim"]
    if dim is None:
        x, dim = call.reshape(x, (x.size,), ".flat"), 0
    over = axes(dim, len(x.shape))
    extreme = reduced(call, reduce, x, over, True, dtype=x.dtype, suffix=".extreme")
    index = _first_where_equal(call, x, extreme, over, keep, ".first")
    return call.reshape(index, call.shape)


def _first_where_equal(
    call: Call, x: Value, values: Value, over: Sequence[int], keep: bool, suffix: str
) -> Value:
    """The smallest index along the one dimension ``over`` at which ``x`` is ``values``."""
    (axis,) = over
    shape = [1 if a == axis else n for a, n in enumerate(x.shape) if keep or a != axis]
    size = x.shape[axis]
    place: dict[str, Any] = {"shape": shape, "suffix": suffix, "dtype": "int64"}

    def element(readers: Sequence[Any], *indices: Expr) -> Expr:
        k = te.reduce_axis((0, size), name="k")
        before, after = indices[:axis], indices[axis + 1 if keep else axis :]
        same = tirx.EQ(readers[0](*before, k, *after), readers[1](*before, 0, *after))
        place = tirx.Select(same, scalar.cast(k, "int64"), tirx.const(size - 1, "int64"))
        return te.min(place, axis=k)

    return call.compute([x, values], element, reduces=True, **place)


def _any(call: Call) -> Value:
    x = call["self"]
    over, keep = _over(call, x)
    if call.has("dim") and call["dim"] == []:
        over = ()
    hit = reduced(call, te.max, x, over, keep, read=_one_if_true, dtype="int32", suffix=".hit")
    return pointwise(call, scalar.truth, [hit], "int32")


def _one_if_true(value: Expr) -> Expr:
    return scalar.cast(scalar.truth(value), "int32")


HANDLERS: dict[str, Callable[[Call], Any]] = {
    "aten.amax.default": partial(_reduction, LARGEST),
    "aten.amin.default": partial(_reduction, SMALLEST),
    "aten.any.default": _any,
    "aten.any.dim": _any,
    "aten.any.dims": _any,
    "aten.argmax.default": partial(_index_of, LARGEST),
    "aten.argmin.default": partial(_index_of, SMALLEST),
    "aten.max.dim": partial(_extreme_with_index, LARGEST),
    "aten.mean.default": _mean,
    "aten.mean.dim": _mean,
    "aten.min.dim": partial(_extreme_with_index, SMALLEST),
    "aten.prod.default": partial(_reduction, MULTIPLY),
    "aten.prod.dim_int": partial(_reduction, MULTIPLY),
    "aten.sum.default": partial(_reduction, te.sum),
    "aten.sum.dim_IntList": partial(_reduction, te.sum),
    "aten.var.correction": lambda call: _moments(call)[0],
    "aten.var_mean.correction": _moments,
    "prims.var.default": lambda call: _moments(call)[0],
}
