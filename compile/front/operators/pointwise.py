"""Operators that compute each number of a result from one number of each operand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

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
    tensors = [o for o in operands if isinstance(o, Value) and not _is_scalar(o)]
    shape = call.shape if shape is None else tuple(shape)

    def element(readers: list[Callable[..., Expr]], *indices: Expr) -> Expr:
        remaining = iter(zip(readers, tensors, strict=True))
        values = []
        for operand in operands:
            if isinstance(operand, Value) and not _is_scalar(operand):
                reader, tensor = next(remaining)
                value = reader(*broadcast(indices, tensor.shape))
            else:
                value = scalar.immediate(_single(operand), within)
            values.append(scalar.cast(value, within))
        return scalar.bound(function, values)

    zeros = (0,) if len(tensors) == 1 and not place and call.keeps_zero() else ()
    return call.compute(tensors, element, shape, zeros=zeros, **place)


def _single(operand: Operand) -> Any:
    """The number of a constant that has only one."""
    if not isinstance(operand, Value):
        return operand
    assert operand.data is not None
    return operand.data.reshape(-1)[0]


def _is_scalar(value: Value) -> bool:
    return value.data is not None and value.size == 1


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


def _unary(function: Function) -> Callable[[Call], Value]:
    return lambda call: pointwise(call, function, [call["self"]])


def _binary(function: Function) -> Callable[[Call], Value]:
    return lambda call: pointwise(call, function, [call["self"], call["other"]])


def _test(function: Function) -> Callable[[Call], Value]:
    """A predicate of one operand, in the operand's own type."""
    return lambda call: pointwise(call, function, [call["self"]], call["self"].dtype)


def _comparison(function: Function) -> Callable[[Call], Value]:
    def handler(call: Call) -> Value:
        operands = [call["self"], call["other"]]
        return pointwise(call, function, operands, promoted(*operands))

    return handler


def _logical(function: Function) -> Callable[[Call], Value]:
    """Of truth values: what is not zero is true."""

    def handler(call: Call) -> Value:
        operands = [call["self"], *([] if "not" in call.operator else [call["other"]])]
        return pointwise(
            call,
            lambda *values: function(*(scalar.truth(v) for v in values)),
            operands,
            promoted(*operands),
        )

    return handler


def _where(call: Call) -> Value:
    condition, a, b = call["condition"], call["self"], call["other"]
    operands = [condition, a, b]
    dtype = call.dtype

    def choose(c: Expr, x: Expr, y: Expr) -> Expr:
        return scalar.select(c, scalar.cast(x, dtype), scalar.cast(y, dtype))

    return _mixed(call, choose, operands)


def _mixed(call: Call, function: Function, operands: Sequence[Operand]) -> Value:
    """Like :func:`pointwise`, each operand in a type of its own."""
    tensors = [o for o in operands if isinstance(o, Value)]

    def element(readers: list[Callable[..., Expr]], *indices: Expr) -> Expr:
        remaining = iter(zip(readers, tensors, strict=True))
        values = []
        for operand in operands:
            if isinstance(operand, Value):
                reader, tensor = next(remaining)
                values.append(reader(*broadcast(indices, tensor.shape)))
            else:
                values.append(scalar.immediate(operand, call.dtype))
        return function(*values)

    return call.compute(tensors, element)


def _masked_fill(call: Call) -> Value:
    x, mask, value = call["self"], call["mask"], call["value"]
    return _mixed(
        call,
        lambda m, v, x: scalar.select(m, scalar.cast(v, call.dtype), x),
        [mask, value, x],
    )


def _converted(name: str) -> Callable[[Call], Value]:
    def handler(call: Call) -> Value:
        x = call["self" if name == "to" else "a"]
        call["dtype"]
        if x.dtype == call.dtype and x.shape == call.shape:
            return x
        return pointwise(call, lambda v: scalar.cast(v, call.dtype), [x], x.dtype)

    return handler


def _clamp(call: Call) -> Value:
    x, low, high = call["self"], call["min"], call["max"]
    numbers = [None if v is None else _number(v) for v in (low, high)]
    if x.dtype == call.dtype == "float32" and all(
        v is None or n is not None for v, n in zip((low, high), numbers, strict=True)
    ):
        return clamp(call, x, *numbers)
    operands = [x, *(v for v in (low, high) if v is not None)]

    def bounded(v: Expr, *bounds: Expr) -> Expr:
        remaining = iter(bounds)
        if low is not None:
            v = scalar.maximum(v, next(remaining))
        return v if high is None else scalar.minimum(v, next(remaining))

    return pointwise(call, bounded, operands)


def clamp(call: Call, x: Value, low: float | None, high: float | None) -> Value:
    """A ``clamp`` node; bounds that bound nothing are none."""
    if low is not None and high is not None and low > high:
        low = high  # as PyTorch has it
    low = None if low == -np.inf else low
    high = None if high == np.inf else high
    return call.node("clamp", [x], low=low, high=high)


def _number(value: Operand) -> float | None:
    if isinstance(value, Value) and not _is_scalar(value):
        return None
    return float(_single(value))


def _relu(call: Call) -> Value:
    if call.dtype != "float32":
        zero = scalar.immediate(0, call.dtype)
        return pointwise(call, lambda v: scalar.maximum(v, zero), [call["self"]])
    return clamp(call, call["self"], 0.0, None)


def _hardtanh(call: Call) -> Value:
    low, high = float(call["min_val"]), float(call["max_val"])
    if call.dtype == "float32":
        return clamp(call, call["self"], low, high)
    bounds = [scalar.immediate(n, call.dtype) for n in (low, high)]
    return pointwise(
        call, lambda v: scalar.minimum(scalar.maximum(v, bounds[0]), bounds[1]), [call["self"]]
    )


def _elu(call: Call) -> Value:
    alpha, scale, inner = (float(call[n]) for n in ("alpha", "scale", "input_scale"))

    def elu(v: Expr) -> Expr:
        low = scalar.expm1(v * inner) * alpha
        return scalar.select(v > 0, v, low) * scale if scale != 1 else scalar.select(v > 0, v, low)

    return pointwise(call, elu, [call["self"]])


def _gelu(call: Call) -> Value:
    kind = call["approximate"]
    return pointwise(call, scalar.gelu_tanh if kind == "tanh" else scalar.gelu, [call["self"]])


def _leaky_relu(call: Call) -> Value:
    slope = float(call["negative_slope"])
    return pointwise(call, lambda v: scalar.select(v > 0, v, v * slope), [call["self"]])


def _rrelu(call: Call) -> Value:
    """In evaluation the slope is the middle of the range that training draws from."""
    if call["training"]:
        raise call.refused("in training mode")
    call["noise"], call["generator"]
    slope = (float(call["lower"]) + float(call["upper"])) / 2
    return pointwise(call, lambda v: scalar.select(v > 0, v, v * slope), [call["self"]])


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


def _clone(call: Call) -> Value:
    return call["self"]


_UNARY: dict[str, Function] = {
    "abs": scalar.absolute,
    "acos": scalar.acos,
    "acosh": scalar.acosh,
    "asin": scalar.asin,
    "asinh": scalar.asinh,
    "atan": scalar.atan,
    "atanh": scalar.atanh,
    "bitwise_not": scalar.bitwise_not,
    "ceil": scalar.ceil,
    "cos": scalar.cos,
    "cosh": scalar.cosh,
    "erf": scalar.erf,
    "exp": scalar.exp,
    "exp2": scalar.exp2,
    "expm1": scalar.expm1,
    "floor": scalar.floor,
    "hardsigmoid": scalar.hardsigmoid,
    "hardswish": scalar.hardswish,
    "log": scalar.log,
    "log10": scalar.log10,
    "log1p": scalar.log1p,
    "log2": scalar.log2,
    "neg": lambda v: -v,
    "reciprocal": lambda v: 1 / v,
    "round": scalar.round_half_even,
    "rsqrt": lambda v: 1 / scalar.sqrt(v),
    "sigmoid": scalar.sigmoid,
    "sign": scalar.sign,
    "silu": lambda v: v * scalar.sigmoid(v),
    "sin": scalar.sin,
    "sinh": scalar.sinh,
    "sqrt": scalar.sqrt,
    "tan": scalar.tan,
    "tanh": scalar.tanh,
    "trunc": scalar.trunc,
}
_BINARY: dict[str, Function] = {
    "atan2.default": scalar.atan2,
    "bitwise_and.Tensor": scalar.bitwise_and,
    "bitwise_and.Scalar": scalar.bitwise_and,
    "bitwise_or.Tensor": scalar.bitwise_or,
    "bitwise_or.Scalar": scalar.bitwise_or,
    "bitwise_xor.Tensor": scalar.bitwise_xor,
    "bitwise_xor.Scalar": scalar.bitwise_xor,
    "fmod.Tensor": scalar.fmod,
    "fmod.Scalar": scalar.fmod,
    "maximum.default": scalar.maximum,
    "minimum.default": scalar.minimum,
    "remainder.Tensor": scalar.remainder,
    "remainder.Scalar": scalar.remainder,
}
_COMPARISONS: dict[str, Function] = {
    "eq": scalar.equal,
    "ge": lambda a, b: a >= b,
    "gt": lambda a, b: a > b,
    "le": lambda a, b: a <= b,
    "lt": lambda a, b: a < b,
    "ne": scalar.unequal,
}
_LOGICAL: dict[str, Function] = {
    "logical_and": scalar.logical_and,
    "logical_not": scalar.logical_not,
    "logical_or": scalar.logical_or,
    "logical_xor": scalar.logical_xor,
}

HANDLERS: dict[str, Callable[[Call], Any]] = {
    **{f"aten.{name}.default": _unary(function) for name, function in _UNARY.items()},
    **{f"aten.{name}": _binary(function) for name, function in _BINARY.items()},
    **{
        f"aten.{name}.{form}": _comparison(function)
        for name, function in _COMPARISONS.items()
        for form in ("Tensor", "Scalar")
    },
    **{f"aten.{name}.default": _logical(function) for name, function in _LOGICAL.items()},
    "aten.clamp.default": _clamp,
    "aten.clamp.Tensor": _clamp,
    "aten.clone.default": _clone,
    "aten.alias.default": _clone,
    "aten.copy.default": _copy,
    "aten.elu.default": _elu,
    "aten.gelu.default": _gelu,
    "aten.hardtanh.default": _hardtanh,
    "aten.isinf.default": _test(scalar.isinf),
    "aten.isnan.default": _test(scalar.isnan),
    "aten.leaky_relu.default": _leaky_relu,
    "aten.masked_fill.Scalar": _masked_fill,
    "aten.masked_fill.Tensor": _masked_fill,
    "aten.relu.default": _relu,
    "aten.rrelu_with_noise_functional.default": lambda call: [_rrelu(call), None],
    "aten.softplus.default": _softplus,
    "aten.where.self": _where,
    "aten._to_copy.default": _converted("to"),
    "prims.convert_element_type.default": _converted("prims"),
}
