"""Sums, products, quotients and powers; those with one constant for each channel are ``affine``."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import numpy as np

from headgate.compile.front.graph import Value
from headgate.compile.front.operators import scalar
from headgate.compile.front.operators.pointwise import Operand, pointwise
from headgate.compile.front.reading import Call, Number


def _per_channel(value: Operand, like: Value) -> np.ndarray | None:
    """A constant that varies over channels only, as one number for each."""
    data = value.data if isinstance(value, Value) else np.asarray(value)
    if data is None:
        return None
    shape = (1,) * (len(like.shape) - data.ndim) + data.shape
    if shape not in {(1,) * len(shape), (1, like.channels) + (1,) * (len(shape) - 2)}:
        return None
    return np.broadcast_to(data.reshape(-1), (like.channels,)).astype(np.float32)


def arithmetic(kind: str, call: Call, a: Operand, b: Operand, alpha: Number = 1) -> Value:
    """``a`` and ``alpha`` times ``b``, added, subtracted, multiplied or divided."""
    if isinstance(a, Value) and a.data is not None and kind in ("add", "mul") and alpha == 1:
        a, b = b, a
    floats = isinstance(a, Value) and a.dtype == call.dtype == "float32"
    if floats and isinstance(a, Value) and a.data is None and a.shape == call.shape:
        constant = _per_channel(b, a) if _has_channels(a) else None
        if constant is not None:
            scale, shift = _affine(kind, constant * np.float32(alpha))
            return call.node("affine", [a], scale=scale, shift=shift)
        same = isinstance(b, Value) and b.data is None and (b.shape, b.dtype) == (a.shape, a.dtype)
        if kind == "add" and alpha == 1 and isinstance(b, Value) and same:
            return call.node("add", [a, b])
    function = scalar.ARITHMETIC[kind]
    if alpha == 1:
        result = pointwise(call, function, [a, b])
        if kind == "mul":
            node = call.graph.nodes[-1]
            whole = [i for i, v in enumerate(node.inputs) if v.shape == result.shape]
            node.attributes["zeros"] = tuple(whole)
        return result
    factor = scalar.immediate(alpha, call.dtype)
    return pointwise(call, lambda x, y: function(x, y * factor), [a, b])


def _has_channels(x: Value) -> bool:
    """Whether ``x`` has channels with pixels, or is a vector: else a row has no channel."""
    return x.shape[0] == 1 if len(x.shape) == 2 else len(x.shape) == 4


def _affine(kind: str, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift of a constant that is added, subtracted, multiplied with or divided by."""
    if kind in ("add", "sub"):
        return np.ones_like(c), c if kind == "add" else -c
    with np.errstate(divide="ignore"):
        return c if kind == "mul" else 1 / c, np.zeros_like(c)


def _arithmetic(kind: str, call: Call) -> Value:
    alpha = call["alpha"] if call.has("alpha") else 1
    return arithmetic(kind, call, call["self"], call["other"], alpha)


def _rounded_quotient(call: Call) -> Value:
    mode = call["rounding_mode"]
    if mode is None:
        return arithmetic("div", call, call["self"], call["other"])
    function = scalar.floor_divide if mode == "floor" else scalar.truncated_divide
    return pointwise(call, function, [call["self"], call["other"]])


def _power(call: Call) -> Value:
    base, exponent = call["self"], call["exponent"]
    if exponent in (1, 2, 3, 4):
        return pointwise(call, lambda v: reduce(operator.mul, [v] * int(exponent)), [base])
    return pointwise(call, scalar.power, [base, exponent])


HANDLERS: dict[str, Callable[[Call], Any]] = {
    **{
        f"aten.{kind}.{form}": partial(_arithmetic, kind)
        for kind in scalar.ARITHMETIC
        for form in ("Tensor", "Scalar")
    },
    **{f"aten.div.{form}": _rounded_quotient for form in ("Tensor_mode", "Scalar_mode")},
    **{f"aten.pow.{form}": _power for form in ("Tensor_Scalar", "Tensor_Tensor", "Scalar")},
}
