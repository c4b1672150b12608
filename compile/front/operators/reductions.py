"""Operators that make one number of many: sums, means, extremes and where those are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
LARGEST = te.comm_reducer(scalar.maximum, lambda t: scalar.lowest(str(t)), name="largest")
SMALLEST = te.comm_reducer(scalar.minimum, lambda t: scalar.highest(str(t)), name="smallest")


def reduced(
    call: Call,
    reduce: Reduce,
    x: Value,
    over: Sequence[int],
    keep: bool,
    *,
    read: Callable[[Expr], Expr] = lambda v: v,
    dtype: str | None = None,
    operator: str = "",
    suffix: str = "",
) -> Value:
    """``reduce`` of what ``read`` makes of the numbers along the dimensions ``over``."""
    kept = [a for a in range(len(x.shape)) if a not in over]
    shape = [1 if a in over else n for a, n in enumerate(x.shape) if keep or a not in over]

    def element(readers: Sequence[Any], *indices: Expr) -> Expr:
        inner = {a: te.reduce_axis((0, x.shape[a]), name=f"r{a}") for a in over}
        outer = dict(zip(range(len(x.shape)) if keep else kept, indices, strict=True))
        value = readers[0](*(inner.get(a, outer.get(a)) for a in range(len(x.shape))))
        return reduce(read(value), axis=list(inner.values()))

    if not over:
        return pointwise(call, read, [x], x.dtype, shape, suffix=suffix, dtype=dtype or call.dtype)
    return call.compute(
        [x],
        element,
        shape,
        reduces=True,
        operator=operator,
        suffix=suffix,
        dtype=dtype or call.dtype,
    )


def _over(call: Call, x: Value) -> tuple[tuple[int, ...], bool]:
    """The dimensions to reduce, and whether they stay as ones; those without ``dim``: all."""
    if not call.has("dim"):
        return tuple(range(len(x.shape))), False
    return axes(call["dim"], len(x.shape)), bool(call["keepdim"])


def _sum(call: Call) -> Value:
    x = call["self"]
    over, keep = _over(call, x)
    call["dtype"]
    return total(call, x, over, keep)


def total(call: Call, x: Value, over: Sequence[int], keep: bool, suffix: str = "") -> Value:
    """The sum along the dimensions ``over``."""
    dtype = call.dtype
    return reduced(call, te.sum, x, over, keep, read=lambda v: scalar.cast(v, dtype), suffix=suffix)


def _mean(call: Call) -> Value:
    x = call["self"]
    call["dtype"]
    return mean(call, x, *_over(call, x))


def mean(call: Call, x: Value, over: Sequence[int], keep: bool, suffix: str = "") -> Value:
    """The mean along ``over``; over the pixels of images it is a kernel of its own."""
    floats = x.dtype == call.dtype == "float32"
    if floats and len(x.shape) == 4 and tuple(over) == (2, 3):
        shape = (*x.shape[:2], 1, 1) if keep else x.shape[:2]
        return call.node("channel_mean", [x], shape, suffix=suffix, absolute=False)
    count = int(np.prod([x.shape[a] for a in over]))
    whole = total(call, x, over, keep, f"{suffix}.sum")
    place: dict[str, Any] = {"shape": whole.shape, "suffix": suffix, "operator": "mean"}
    return pointwise(call, lambda v: v * (1.0 / count), [whole], **place)


def _variance(call: Call) -> Value:
    """The mean square of what is left when the mean is taken away, in two passes."""
    return _moments(call)[0]


def _moments(call: Call) -> list[Value]:
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
    whole = total(call, square, over, keep, ".squares")
    factor = 1.0 / divisor if divisor else np.inf
    variance = pointwise(call, lambda v: v * factor, [whole], shape=whole.shape)
    if keep or not over:
        return [variance, middle]
    return [variance, call.reshape(middle, whole.shape, ".squeezed")]


def _extreme(reduce: Reduce) -> Callable[[Call], Value]:
    def handler(call: Call) -> Value:
        x = call["self"]
        over, keep = _over(call, x)
        return reduced(call, reduce, x, over, keep)

    return handler


def _extreme_with_index(reduce: Reduce) -> Callable[[Call], list[Value]]:
    """max and min along one dimension: the numbers, and where the first of each is."""

    def handler(call: Call) -> list[Value]:
        x, keep = call["self"], bool(call["keepdim"])
        x = x if x.shape else call.reshape(x, (1,), ".vector")
        over = axes(call["dim"], len(x.shape))
        values = reduced(call, reduce, x, over, True, suffix=".values")
        index = _first_where_equal(call, x, values, over, keep, ".indices")
        return [
            call.reshape(values, call.shape, ".squeezed"),
            call.reshape(index, call.shape, ".places"),
        ]

    return handler


def _index_of(reduce: Reduce) -> Callable[[Call], Value]:
    """argmax and argmin, of one dimension or of the whole tensor."""

    def handler(call: Call) -> Value:
        x, keep = call["self"], bool(call["keepdim"])
        dim = call["dim"]
        if dim is None:
            x = call.reshape(x, (x.size,), ".flat")
            dim = 0
        over = axes(dim, len(x.shape))
        extreme = reduced(call, reduce, x, over, True, dtype=x.dtype, suffix=".extreme")
        index = _first_where_equal(call, x, extreme, over, keep, ".first")
        return call.reshape(index, call.shape)

    return handler


def _first_where_equal(
    call: Call, x: Value, values: Value, over: Sequence[int], keep: bool, suffix: str
) -> Value:
    """The smallest index along the one dimension ``over`` at which ``x`` is ``values``."""
    (axis,) = over
    shape = [1 if a == axis else n for a, n in enumerate(x.shape) if keep or a != axis]
    size = x.shape[axis]

    def element(readers: Sequence[Any], *indices: Expr) -> Expr:
        k = te.reduce_axis((0, size), name="k")
        before = list(indices[:axis])
        after = list(indices[axis + 1 if keep else axis :])
        same = tirx.EQ(readers[0](*before, k, *after), readers[1](*before, 0, *after))
        place = tirx.Select(same, scalar.cast(k, "int64"), tirx.const(size - 1, "int64"))
        return te.min(place, axis=k)

    return call.compute(
        [x, values],
        element,
        shape,
        reduces=True,
        rereads=True,
        suffix=suffix,
        dtype="int64",
    )


def _any(call: Call) -> Value:
    x = call["self"]
    over, keep = _over(call, x)
    if call.has("dim") and call["dim"] == []:
        over = ()
    hit = reduced(
        call,
        te.max,
        x,
        over,
        keep,
        read=lambda v: scalar.cast(scalar.truth(v), "int32"),
        dtype="int32",
        suffix=".hit",
    )
    return pointwise(call, lambda v: scalar.truth(v), [hit], "int32")


def _product(call: Call) -> Value:
    x = call["self"]
    call["dtype"]
    over, keep = _over(call, x)
    dtype = call.dtype
    return reduced(call, MULTIPLY, x, over, keep, read=lambda v: scalar.cast(v, dtype))


HANDLERS: dict[str, Callable[[Call], Any]] = {
    "aten.amax.default": _extreme(LARGEST),
    "aten.amin.default": _extreme(SMALLEST),
    "aten.any.default": _any,
    "aten.any.dim": _any,
    "aten.any.dims": _any,
    "aten.argmax.default": _index_of(LARGEST),
    "aten.argmin.default": _index_of(SMALLEST),
    "aten.max.dim": _extreme_with_index(LARGEST),
    "aten.mean.default": _mean,
    "aten.mean.dim": _mean,
    "aten.min.dim": _extreme_with_index(SMALLEST),
    "aten.prod.default": _product,
    "aten.prod.dim_int": _product,
    "aten.sum.default": _sum,
    "aten.sum.dim_IntList": _sum,
    "aten.var.correction": _variance,
    "aten.var_mean.correction": _moments,
    "prims.var.default": _variance,
}
