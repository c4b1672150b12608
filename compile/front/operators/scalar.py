"""Functions of single numbers, as TIR: what an operator computes for each element.

Functions that C's library has are called there: its results are those that PyTorch's tests ask
for, and every target has it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

from tvm import ir, tirx

Expr = Any
"""A TIR expression."""
Function = Callable[..., Expr]


def type_of(value: Expr) -> str:
    """ "float32" of a number of that type."""
    return str(value.ty)


def immediate(value: Any, dtype: str) -> Expr:
    """A constant of this type."""
    if dtype == "bool":
        return tirx.const(bool(value), "bool")
    return tirx.const(float(value) if dtype.startswith("float") else int(value), dtype)


def cast(value: Expr, dtype: str) -> Expr:
    """``value`` in another type, as PyTorch converts: to bool by asking whether it is not zero."""
    if isinstance(value, tirx.IterVar):
        value = value.var
    if not isinstance(value, ir.Expr):
        return immediate(value, dtype)
    if type_of(value) == dtype:
        return value
    if dtype == "bool":
        return truth(value)
    if type_of(value) == "bool":
        return tirx.Select(value, immediate(1, dtype), immediate(0, dtype))
    return tirx.Cast(dtype, value)


def bound(function: Function, values: list[Expr]) -> Expr:
    """``function`` of values that are computed once, however often it uses them."""
    names, taken = [], []
    for value in values:
        if isinstance(value, tirx.IntImm | tirx.FloatImm | tirx.Var):
            names.append(value)
        else:
            names.append(tirx.Var("v", type_of(value)))
            taken.append((names[-1], value))
    result = function(*names)
    for name, value in reversed(taken):
        result = tirx.Let(name, value, result)
    return result


def every(conditions: Sequence[Expr]) -> Expr:
    """Whether all of one or more conditions hold."""
    return tirx.all(*conditions) if len(conditions) > 1 else conditions[0]


def within(conditions: Sequence[Expr], a: Expr, b: Expr) -> Expr:
    """``a`` where all conditions hold, of which there may be none, else ``b``."""
    return guarded(every(conditions), a, b) if conditions else a


def truth(value: Expr) -> Expr:
    """Whether ``value`` is not zero."""
    return value if type_of(value) == "bool" else tirx.NE(value, immediate(0, type_of(value)))


def select(condition: Expr, a: Expr, b: Expr) -> Expr:
    """``a`` where the condition holds, else ``b``; both are computed."""
    dtype = type_of(a if isinstance(a, ir.Expr) else b)
    return tirx.Select(truth(condition), cast(a, dtype), cast(b, dtype))


def guarded(condition: Expr, a: Expr, b: Expr) -> Expr:
    """``a`` where the condition holds, else ``b``; only that one is computed."""
    return tirx.if_then_else(condition, a, b)


def _library(name: str) -> Function:
    def call(*values: Expr) -> Expr:
        dtype = type_of(values[0])
        return tirx.call_pure_extern(dtype, name + ("f" if dtype == "float32" else ""), *values)

    return call


def _by_type(floats: Function, integers: Function, truths: Function | None = None) -> Function:
    """A function that is one of these by the type of its first operand.

    Without ``truths`` those are taken for integers.
    """

    def function(*values: Expr) -> Expr:
        dtype = type_of(values[0])
        if dtype == "bool" and truths is not None:
            return truths(*values)
        return (floats if dtype.startswith("float") else integers)(*values)

    return function


acos, asin, atan, atan2 = (_library(n) for n in ("acos", "asin", "atan", "atan2"))
acosh, asinh, atanh = (_library(n) for n in ("acosh", "asinh", "atanh"))
cosh, sinh, tan, tanh = (_library(n) for n in ("cosh", "sinh", "tan", "tanh"))
erf, exp2, expm1, log1p = (_library(n) for n in ("erf", "exp2", "expm1", "log1p"))
cos, exp, sin, sqrt = tirx.cos, tirx.exp, tirx.sin, tirx.sqrt
log, log10, log2 = tirx.log, _library("log10"), _library("log2")
absolute = tirx.abs
ceil, floor, trunc, round_half_even = (
    _by_type(rounded, integers=lambda v: v)
    for rounded in (tirx.ceil, tirx.floor, tirx.trunc, tirx.nearbyint)
)
isnan, isinf = (
    _by_type(test, integers=lambda _: immediate(False, "bool")) for test in (tirx.isnan, tirx.isinf)
)


def sigmoid(v: Expr) -> Expr:
    return 1 / (1 + exp(-v))


def hardsigmoid(v: Expr) -> Expr:
    return minimum(maximum(v + 3, cast(0.0, "float32")), cast(6.0, "float32")) / 6


def hardswish(v: Expr) -> Expr:
    return v * hardsigmoid(v)


def gelu(v: Expr) -> Expr:
    return v * 0.5 * (1 + erf(v * math.sqrt(0.5)))


def gelu_tanh(v: Expr) -> Expr:
    return v * 0.5 * (1 + tanh((v + v * v * v * 0.044715) * math.sqrt(2 / math.pi)))


def sign(v: Expr) -> Expr:
    zero, one = (immediate(n, type_of(v)) for n in (0, 1))
    return tirx.Select(v > zero, one, tirx.Select(v < zero, zero - one, zero))


def _xor(a: Expr, b: Expr) -> Expr:
    return tirx.any(tirx.all(a, tirx.Not(b)), tirx.all(tirx.Not(a), b))


# LLVM compares no truth values.
unequal = _by_type(tirx.NE, tirx.NE, truths=_xor)
equal = _by_type(tirx.EQ, tirx.EQ, truths=lambda a, b: tirx.Not(_xor(a, b)))
maximum = _by_type(
    # NaN if one of them is.
    lambda a, b: tirx.Select(tirx.any(a > b, isnan(a)), a, b),
    tirx.Max,
    truths=tirx.any,
)
minimum = _by_type(
    lambda a, b: tirx.Select(tirx.any(a < b, isnan(a)), a, b), tirx.Min, truths=tirx.all
)


def lowest(dtype: str) -> Expr:
    """What every number of this type is at least."""
    return tirx.const(-math.inf, dtype) if dtype.startswith("float") else tirx.min_value(dtype)


def highest(dtype: str) -> Expr:
    """What no number of this type is above."""
    return tirx.const(math.inf, dtype) if dtype.startswith("float") else tirx.max_value(dtype)


def _other_side(rest: Expr, b: Expr) -> Expr:
    """Whether a remainder lies on the other side of zero than the divisor."""
    zero = immediate(0, type_of(rest))
    return tirx.all(tirx.NE(rest, zero), unequal(rest < zero, b < zero))


def _remainder(a: Expr, b: Expr) -> Expr:
    rest = _fmod(a, b)
    return tirx.Select(_other_side(rest, b), rest + b, rest)


def _floor_divide(a: Expr, b: Expr) -> Expr:
    """Of the exact quotient, not of the rounded one."""
    rest = _fmod(a, b)
    zero, half, one = (immediate(n, type_of(a)) for n in (0, 0.5, 1))
    quotient = (a - rest) / b - tirx.Select(_other_side(rest, b), one, zero)
    down = tirx.floor(quotient)
    down = tirx.Select(quotient - down > half, down + one, down)
    return tirx.Select(tirx.EQ(b, zero), a / b, down)


def _integer_power(a: Expr, b: Expr) -> Expr:
    return tirx.Cast(type_of(a), _pow(tirx.Cast("float64", a), tirx.Cast("float64", b)))


_fmod, _pow = _library("fmod"), _library("pow")
power = _by_type(_pow, _integer_power)
fmod = _by_type(_fmod, tirx.truncmod)
"""The remainder with the sign of the first operand."""
remainder = _by_type(_remainder, tirx.floormod)
"""The remainder with the sign of the second, as Python's ``%``."""
floor_divide = _by_type(_floor_divide, tirx.floordiv)
truncated_divide = _by_type(lambda a, b: trunc(a / b), tirx.truncdiv)

bitwise_and = _by_type(operator.and_, operator.and_, truths=tirx.all)
bitwise_or = _by_type(operator.or_, operator.or_, truths=tirx.any)
bitwise_xor = _by_type(operator.xor, operator.xor, truths=_xor)
bitwise_not = _by_type(operator.invert, operator.invert, truths=tirx.Not)

ARITHMETIC: dict[str, Function] = {
    "add": _by_type(operator.add, operator.add, truths=tirx.any),
    "sub": operator.sub,
    "mul": _by_type(operator.mul, operator.mul, truths=tirx.all),
    "div": _by_type(
        operator.truediv, lambda a, b: tirx.Cast("float32", a) / tirx.Cast("float32", b)
    ),
}
