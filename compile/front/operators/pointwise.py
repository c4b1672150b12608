"""Operators that compute each number of a result from one number of each operand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from tvm import tirx

from headgate.compile.front.graph import Value
from headgate.compile.front.operators import scalar
from headgate.compile.front.operators.scalar import Expr
from headgate.compile.front.reading import Call, Number, dtype_name

Operand = Value | Number
Function = Callable[..., Expr]


def pointwise(
    call: Call,
    function: Function,
    operands: Sequence[Operand],
    within: str | None = None,
    shape: Sequence[int] | None = None,
    **place: Any,
) -> Value:
    """A node of ``function(a, b, ...)`` for each number, operands broadcast.

    Operands are converted to the type ``within`` first, the result's by default. ``place`` is
    that of :meth:`Call.compute`.
    """
    within = within or place.get("dtype") or call.dtype
    operands = [_plain(operand) for operand in operands]
    tensors = [o for o in operands if isinstance(o, Value)]
    shape = call.shape if shape is None else tuple(shape)

    def element(readers: list[Callable[..., Expr]], *indices: Expr) -> Expr:
        read = iter(readers)
        values = [
            next(read)(*broadcast(indices, o.shape)) if isinstance(o, Value) else o
            for o in operands
        ]
        return scalar.bound(function, [scalar.cast(value, within) for value in values])

    zeros = (0,) if len(tensors) == 1 and not place and call.keeps_zero() else ()
    return call.compute(tensors, element, shape, zeros=zeros, **place)


def _plain(operand: Operand) -> Any:
    """A constant of one number as that number; others as they are."""
    if isinstance(operand, Value) and operand.data is not None and operand.size == 1:
        return operand.data.reshape(-1)[0]
    return operand


def broadcast(indices: Sequence[Expr], shape: tuple[int, ...]) -> list[Expr]:
    """The indices of an operand of ``shape`` that belong to those of a result."""
    last = indices[len(indices) - len(shape) :]
    return [0 if size == 1 else index for index, size in zip(last, shape, strict=True)]


def promoted(*operands: Operand) -> str:
    """The type in which PyTorch compares one or two operands."""
    examples: list[Any] = [
        torch.empty((1,) * len(o.shape), dtype=getattr(torch, o.dtype))
        if isinstance(o, Value)
        else o
        for o in operands
    ]
    return dtype_name(torch.result_type(examples[0], examples[-1]))


def _elementwise(function: Function, call: Call, compared: bool = False) -> Value:
    """Of ``self``, and ``other`` where the operator has one.

    ``compared``: in the type in which PyTorch compares them, not in the result's.
    """
    operands = [call[name] for name in ("self", "other") if call.has(name)]
    return pointwise(call, function, operands, promoted(*operands) if compared else None)


def _of_truth(function: Function) -> Function:
    """``function`` of truth values: what is not zero is true."""
    return lambda *values: function(*(scalar.truth(v) for v in values))


def _chosen(call: Call, condition: Value, *operands: Operand) -> Value:
    """The first operand where the condition holds, else the second, each read in its own type."""
    tensors = [condition, *(o for o in operands if isinstance(o, Value))]

    def element(readers: list[Callable[..., Expr]], *indices: Expr) -> Expr:
        read = {t: r(*broadcast(indices, t.shape)) for r, t in zip(readers, tensors, strict=True)}
        a, b = (read[o] if isinstance(o, Value) else o for o in operands)
        return scalar.select(
            read[condition], scalar.cast(a, call.dtype), scalar.cast(b, call.dtype)
        )

    return call.compute(tensors, element)


def _converted(call: Call) -> Value:
    x = call["self" if call.has("self") else "a"]
    call["dtype"]
    if x.dtype == call.dtype and x.shape == call.shape:
        return x
    return pointwise(call, lambda v: scalar.cast(v, call.dtype), [x], x.dtype)


def _bounded(call: Call, low: Operand | None, high: Operand | None) -> Value:
    """``self`` between bounds, each a number, a tensor or None."""
    x = call["self"]
    low, high = (None if bound is None else _plain(bound) for bound in (low, high))
    if x.dtype == call.dtype == "float32" and not any(isinstance(b, Value) for b in (low, high)):
        return _clamp(call, x, *(None if b is None else float(b) for b in (low, high)))

    def bounded(v: Expr, *bounds: Expr) -> Expr:
        remaining = iter(bounds)
        if low is not None:
            v = scalar.maximum(v, next(remaining))
        return v if high is None else scalar.minimum(v, next(remaining))

    return pointwise(call, bounded, [x, *(b for b in (low, high) if b is not None)])


def _clamp(call: Call, x: Value, low: float | None, high: float | None) -> Value:
    """A ``clamp`` node; bounds that bound nothing are none."""
    if low is not None and high is not None and low > high:
        low = high  # as PyTorch has it
    low = None if low == -np.inf else low
    high = None if high == np.inf else high
    return call.node("clamp", [x], low=low, high=high)


def _elu(call: Call) -> Value:
    alpha, scale, inner = (float(call[n]) for n in ("alpha", "scale", "input_scale"))

    def elu(v: Expr) -> Expr:
        low = scalar.expm1(v * inner) * alpha
        return scalar.select(v > 0, v, low) * scale if scale != 1 else scalar.select(v > 0, v, low)

    return pointwise(call, elu, [call["self"]])


def _gelu(call: Call) -> Value:
    kind = call["approximate"]
    return pointwise(call, scalar.gelu_tanh if kind == "tanh" else scalar.gelu, [call["self"]])


def _leaky_relu(call: Call, slope: float) -> Value:
    return pointwise(call, lambda v: scalar.select(v > 0, v, v * slope), [call["self"]])


def _rrelu(call: Call) -> list[Value | None]:
    """In evaluation the slope is the middle of the range that training draws from."""
    if call["training"]:
        raise call.refused("in training mode")
    call["noise"], call["generator"]
    return [_leaky_relu(call, (float(call["lower"]) + float(call["upper"])) / 2), None]


def _softplus(call: Call) -> Value:
    beta, threshold = float(call["beta"]), float(call["threshold"])
    return pointwise(
        call,
        lambda v: scalar.select(v * beta > threshold, v, scalar.log1p(scalar.exp(v * beta)) / beta),
        [call["self"]],
    )


def _copy(call: Call) -> Value:
    """The numbers of ``src`` in the shape and type of ``self``."""
    call["self"]
    return pointwise(call, lambda v: v, [call["src"]])


_UNARY: dict[str, Function] = {
    **{
        name: getattr(scalar, name)
        for name in (
            *("acos", "acosh", "asin", "asinh", "atan", "atanh", "bitwise_not", "ceil", "cos"),
            *("cosh", "erf", "exp", "exp2", "expm1", "floor", "hardsigmoid", "hardswish", "log"),
            *("log10", "log1p", "log2", "sigmoid", "sign", "sin", "sinh", "sqrt", "tan", "tanh"),
            "trunc",
        )
    },
    "abs": scalar.absolute,
    "neg": lambda v: -v,
    "reciprocal": lambda v: 1 / v,
    "round": scalar.round_half_even,
    "rsqrt": lambda v: 1 / scalar.sqrt(v),
    "silu": lambda v: v * scalar.sigmoid(v),
}
_BINARY = ("bitwise_and", "bitwise_or", "bitwise_xor", "fmod", "remainder")
_COMPARISONS: dict[str, Function] = {
    "eq": scalar.equal,
    "ge": lambda a, b: a >= b,
    "gt": lambda a, b: a > b,
    "le": lambda a, b: a <= b,
    "lt": lambda a, b: a < b,
    "ne": scalar.unequal,
}
_FORMS = ("Tensor", "Scalar")
_RESULTS = {
    **{f"{name}.default": function for name, function in _UNARY.items()},
    **{f"{name}.{form}": getattr(scalar, name) for name in _BINARY for form in _FORMS},
    **{f"{name}.default": getattr(scalar, name) for name in ("atan2", "maximum", "minimum")},
}
"""Functions of operands that are converted to the result's type."""
_COMPARED = {
    **{f"{name}.{form}": f for name, f in _COMPARISONS.items() for form in _FORMS},
    **{f"{name}.default": getattr(scalar, name) for name in ("isinf", "isnan")},
    "logical_and.default": _of_truth(tirx.all),
    "logical_not.default": _of_truth(tirx.Not),
    "logical_or.default": _of_truth(tirx.any),
    "logical_xor.default": _of_truth(scalar.bitwise_xor),
}
"""Functions of operands in the type in which they are compared."""

HANDLERS: dict[str, Callable[[Call], Any]] = {
    **{f"aten.{name}": partial(_elementwise, function) for name, function in _RESULTS.items()},
    **{f"aten.{name}": partial(_elementwise, f, compared=True) for name, f in _COMPARED.items()},
    **{f"aten.{name}.default": lambda call: call["self"] for name in ("alias", "clone")},
    **{
        f"aten.clamp.{form}": lambda call: _bounded(call, call["min"], call["max"])
        for form in ("default", "Tensor")
    },
    **{
        f"aten.masked_fill.{form}": lambda c: _chosen(c, c["mask"], c["value"], c["self"])
        for form in _FORMS
    },
    "aten.copy.default": _copy,
    "aten.elu.default": _elu,
    "aten.gelu.default": _gelu,
    "aten.hardtanh.default": lambda call: _bounded(call, call["min_val"], call["max_val"]),
    "aten.leaky_relu.default": lambda call: _leaky_relu(call, float(call["negative_slope"])),
    "aten.relu.default": lambda call: _bounded(call, 0, None),
    "aten.rrelu_with_noise_functional.default": _rrelu,
    "aten.softplus.default": _softplus,
    "aten.where.self": lambda c: _chosen(c, c["condition"], c["self"], c["other"]),
    "aten._to_copy.default": _converted,
    "prims.convert_element_type.default": _converted,
}
