"""Operators that read numbers at places that other tensors say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tvm import tirx

from headgate.compile.front.graph import Value
from headgate.compile.front.operators import scalar
from headgate.compile.front.operators.pointwise import broadcast
from headgate.compile.front.operators.scalar import Expr
from headgate.compile.front.reading import Call


def checked(call: Call, index: Value, size: int) -> Value:
    """An index into ``size`` entries; a constant one is counted from the front.

    Raises:
        UnsupportedOperator: a constant index lies outside.
    """
    if index.data is None:
        return index
    data = index.data.astype(np.int64)
    outside = (data < -size) | (data >= size)
    if outside.any():
        raise call.refused(
            f"as index {int(data[outside][0])} is outside a dimension of {size}",
            "correct the index",
        )
    data = np.where(data < 0, data + size, data).astype(np.int32)
    return Value.constant(index.name, data)


def entry(index: Expr, known: Value, size: int) -> Expr:
    """The place that an index names: what depends on the input may count from the end.

    It is kept inside, since nobody can refuse it when the network runs.
    """
    index = scalar.cast(index, "int32")
    if known.data is not None:
        return index
    index = tirx.Select(index < 0, index + size, index)
    return tirx.Max(tirx.Min(index, tirx.const(size - 1, "int32")), tirx.const(0, "int32"))


def given_indices(call: Call) -> dict[int, Value]:
    """The indices of ``x[..., index, ...]`` by the dimension that they are for."""
    return {axis: value for axis, value in enumerate(call["indices"]) if value is not None}


def is_mask(index: Value) -> bool:
    return index.dtype in ("bool", "uint8")


def chosen(call: Call, given: Mapping[int, Value]) -> tuple[dict[int, Value], tuple[int, ...], int]:
    """The indices, checked, the shape that they broadcast to, and the dimension where it begins.

    Indices that stand side by side leave their result there, others in front.
    """
    indices = {axis: checked(call, v, call["self"].shape[axis]) for axis, v in given.items()}
    beside = list(indices) == list(range(min(indices), max(indices) + 1))
    shape = np.broadcast_shapes(*(v.shape for v in indices.values()))
    return indices, shape, min(indices) if beside else 0


def _index(call: Call) -> Value:
    x, given = call["self"], given_indices(call)
    if any(is_mask(v) for v in given.values()):
        raise call.refused("with a mask, whose result has no fixed shape", "use torch.where")
    indices, shape, first = chosen(call, given)

    def element(readers: Sequence[Any], *out: Expr) -> Expr:
        at = out[first : first + len(shape)]
        others = iter((*out[:first], *out[first + len(shape) :]))
        places = {
            axis: entry(reader(*broadcast(at, value.shape)), value, x.shape[axis])
            for reader, (axis, value) in zip(readers[1:], indices.items(), strict=True)
        }
        return readers[0](
            *(places[a] if a in places else next(others) for a in range(len(x.shape)))
        )

    return call.compute([x, *indices.values()], element)


def _gather(call: Call) -> Value:
    call["sparse_grad"]  # of the gradient
    return _along(call, lambda out, axis: out)


def _index_select(call: Call) -> Value:
    return _along(call, lambda out, axis: [out[axis]] if call["index"].shape else [])


def _along(call: Call, entry_of: Callable[[Sequence[Expr], int], Sequence[Expr]]) -> Value:
    """Numbers of ``self``, whose place along ``dim`` the index says at ``entry_of(out, dim)``."""
    x = call["self"] if call["self"].shape else call.reshape(call["self"], (1,), ".vector")
    axis = int(call["dim"]) % len(x.shape)
    index = checked(call, call["index"], x.shape[axis])

    def element(readers: Sequence[Any], *out: Expr) -> Expr:
        place = entry(readers[1](*entry_of(out, axis)), index, x.shape[axis])
        return readers[0](*out[:axis], place, *out[axis + 1 :])

    return call.compute([x, index], element)


def _embedding(call: Call) -> Value:
    weight = call["weight"]
    for name in ("padding_idx", "scale_grad_by_freq", "sparse"):
        call[name]  # of the gradient
    index = checked(call, call["indices"], weight.shape[0])

    def element(readers: Sequence[Any], *out: Expr) -> Expr:
        return readers[0](entry(readers[1](*out[:-1]), index, weight.shape[0]), out[-1])

    return call.compute([weight, index], element)


HANDLERS: dict[str, Callable[[Call], Any]] = {
    "aten.embedding.default": _embedding,
    "aten.gather.default": _gather,
    "aten.index.Tensor": _index,
    "aten._unsafe_index.Tensor": _index,
    "aten.index_select.default": _index_select,
}
