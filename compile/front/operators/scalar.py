"""Functions of single numbers, as TIR: what an operator computes for each element.

Functions that C's library has are called there: its results are those that PyTorch's tests ask
for, and every target has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from tvm import ir, tirx

Expr = Any
"""A TIR expression."""


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


def bound(function: Callable[..., Expr], values: list[Expr]) -> Expr:
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


def _library(name: str) -> Callable[..., Expr]:
    def call(*values: Expr) -> Expr:
        dtype = type_of(values[0])
        return tirx.call_pure_extern(dtype, name + ("f" if dtype == "float32" else ""), *values)

    return call


acos, asin, atan, atan2 = (_library(n) for n in ("acos", "asin", "atan", "atan2"))
acosh, asinh, atanh = (_library(n) for n in ("acosh", "asinh", "atanh"))
cosh, sinh, tan, tanh = (_library(n) for n in ("cosh", "sinh", "tan", "tanh"))
erf, exp2, expm1, log1p = (_library(n) for n in ("erf", "exp2", "expm1", "log1p"))
_fmod, _pow = _library("fmod"), _library("pow")
cos, exp, sin, sqrt = tirx.cos, tirx.exp, tirx.sin, tirx.sqrt
log, log10, log2 = tirx.log, _library("log10"), _library("log2")


def _rounding(function: Callable[[Expr], Expr]) -> Callable[[Expr], Expr]:
    """A rounding, which leaves integers alone."""
    return lambda v: function(v) if _is_float(v) else v


ceil, floor, trunc, round_half_even = (
    _rounding(f) for f in (tirx.ceil, tirx.floor, tirx.trunc, tirx.nearbyint)
)


def _is_float(value: Expr) -> bool:
    return type_of(value).startswith("float")


def absolute(v: Expr) -> Expr:
    return tirx.abs(v)


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


def isnan(v: Expr) -> Expr:
    return tirx.isnan(v) if _is_float(v) else immediate(False, "bool")


def isinf(v: Expr) -> Expr:
    return tirx.isinf(v) if _is_float(v) else immediate(False, "bool")


def unequal(a: Expr, b: Expr) -> Expr:
    """``a != b``; LLVM compares no truth values."""
    if type_of(a) != "bool":
        return tirx.NE(a, b)
    return tirx.any(tirx.all(a, tirx.Not(b)), tirx.all(tirx.Not(a), b))


def equal(a: Expr, b: Expr) -> Expr:
    return tirx.Not(unequal(a, b)) if type_of(a) == "bool" else tirx.EQ(a, b)


def maximum(a: Expr, b: Expr) -> Expr:
    """The larger number; NaN if one of them is."""
    if type_of(a) == "bool":
        return tirx.any(a, b)
    return tirx.Select(tirx.any(a > b, isnan(a)), a, b) if _is_float(a) else tirx.Max(a, b)


def minimum(a: Expr, b: Expr) -> Expr:
    """The smaller number; NaN if one of them is."""
    if type_of(a) == "bool":
        return tirx.all(a, b)
    return tirx.Select(tirx.any(a < b, isnan(a)), a, b) if _is_float(a) else tirx.Min(a, b)


def lowest(dtype: str) -> Expr:
    """What every number of this type is at least."""
    return tirx.const(-math.inf, dtype) if dtype.startswith("float") else tirx.min_value(dtype)


def highest(dtype: str) -> Expr:
    """What no number of this type is above."""
    return tirx.const(math.inf, dtype) if dtype.startswith("float") else tirx.max_value(dtype)


def product(values: list[Expr]) -> Expr:
    return reduce(lambda a, b: a * b, values)


def power(a: Expr, b: Expr) -> Expr:
    if _is_float(a):
        return _pow(a, b)
    return tirx.Cast(type_of(a), _pow(tirx.Cast("float64", a), tirx.Cast("float64", b)))


def fmod(a: Expr, b: Expr) -> Expr:
    """The remainder with the sign of ``a``."""
    return _fmod(a, b) if _is_float(a) else tirx.truncmod(a, b)


def remainder(a: Expr, b: Expr) -> Expr:
    """The remainder with the sign of ``b``, as Python's ``%``."""
    if not _is_float(a):
        return tirx.floormod(a, b)
    rest = _fmod(a, b)
    zero = immediate(0, type_of(a))
    other_side = tirx.all(tirx.NE(rest, zero), unequal(rest < zero, b < zero))
    return tirx.Select(other_side, rest + b, rest)


def floor_divide(a: Expr, b: Expr) -> Expr:
    """The quotient rounded down: of the exact quotient, not of the rounded one."""
    if not _is_float(a):
        return tirx.floordiv(a, b)
    dtype = type_of(a)
    rest = _fmod(a, b)
    zero = immediate(0, dtype)
    other_side = tirx.all(tirx.NE(rest, zero), unequal(rest < zero, b < zero))
    quotient = (a - rest) / b - tirx.Select(other_side, immediate(1, dtype), zero)
    down = tirx.floor(quotient)
    down = tirx.Select(quotient - down > immediate(0.5, dtype), down + immediate(1, dtype), down)
    return tirx.Select(tirx.EQ(b, zero), a / b, down)


def truncated_divide(a: Expr, b: Expr) -> Expr:
    return trunc(a / b) if _is_float(a) else tirx.truncdiv(a, b)


def bitwise_and(a: Expr, b: Expr) -> Expr:
    return tirx.all(a, b) if type_of(a) == "bool" else a & b


def bitwise_or(a: Expr, b: Expr) -> Expr:
    return tirx.any(a, b) if type_of(a) == "bool" else a | b


def bitwise_xor(a: Expr, b: Expr) -> Expr:
    return unequal(a, b) if type_of(a) == "bool" else a ^ b


def bitwise_not(a: Expr) -> Expr:
    return tirx.Not(a) if type_of(a) == "bool" else ~a


def _divide(a: Expr, b: Expr) -> Expr:
    return a / b if _is_float(a) else tirx.Cast("float32", a) / tirx.Cast("float32", b)


def _add(a: Expr, b: Expr) -> Expr:
    return tirx.any(a, b) if type_of(a) == "bool" else a + b


def _multiply(a: Expr, b: Expr) -> Expr:
    return tirx.all(a, b) if type_of(a) == "bool" else a * b


ARITHMETIC: dict[str, Callable[[Expr, Expr], Expr]] = {
    "add": _add,
    "sub": lambda a, b: a - b,
    "mul": _multiply,
    "div": _divide,
}
