"""What the formula of a ``compute`` node is worth, in NumPy: for tables, and for the reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tvm import ir, tirx

from headgate.compile.front.operators import scalar
from headgate.compile.front.reading import Element

Array = np.ndarray
Expr = Any
Operation = Callable[..., Any]

LOG_TWO = (0.693359375, -2.12194440e-4)
"""In two parts; small multiples of the first, which has few bits, are exact."""
EXP_RANGE = (-104.0, 89.0)
"""Beyond, the exponential of a float32 is zero or infinite."""
EXP_FACTORS = tuple(1 / math.factorial(n) for n in range(7, -1, -1))
"""Of the powers of the remainder, the seventh first."""


class Unknown(Exception):
    """A function that :func:`numbers_of` has no definition of."""


def exponential(x: Array) -> Array:
    """e to the float32 ``x``, one rounding after another as kernels compute it.

    ``x = n log 2 + r`` with a whole n; a polynomial of r, times two to the n in two steps.
    """
    f = np.float32
    bounded = np.minimum(np.maximum(x, f(EXP_RANGE[0])), f(EXP_RANGE[1]))
    n = np.rint(bounded * f(1 / math.log(2)))
    r = bounded - n * f(LOG_TWO[0])
    r = r - n * f(LOG_TWO[1])
    value = f(EXP_FACTORS[0]) * np.ones_like(r)
    for factor in EXP_FACTORS[1:]:
        value = value * r + f(factor)
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        whole = np.where(np.isnan(x), 0, n).astype(np.int32)
        for power in (whole >> 1, whole - (whole >> 1)):
            value = value * ((power + 127) << 23).view(np.float32)
    return np.where(np.isnan(x), x, value)


def numbers_of(element: Element, operands: Sequence[Array], shape: Sequence[int]) -> Array:
    """A result of ``shape`` to the bit, as exact code computes it (see ``exact.py``).

    Raises:
        Unknown: the formula has a function that C's library computes.
    """
    reads: dict[tirx.Var, tuple[Array, tuple[Expr, ...]]] = {}

    def reader(array: Array) -> Callable[..., Expr]:
        def read(*indices: Expr) -> Expr:
            found = tirx.Var("x", str(array.dtype))
            reads[found] = array, indices
            return found

        return read

    indices = [tirx.Var(f"i{axis}", "int32") for axis in range(len(shape))]
    formula = element([reader(array) for array in operands], *indices)
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij", sparse=True)
    places = dict(zip(indices, grid, strict=True))
    found = _Walk(places, reads, DEFINED, wide=False).of(formula)
    return np.broadcast_to(found, tuple(shape))


def curve(formula: Expr, values: Mapping[tirx.Var, Array]) -> Array:
    """``formula`` where its variables have ``values``, in float64.

    Raises:
        Unknown: it has a function that is none of single numbers.
    """
    return np.asarray(_Walk(dict(values), {}, DEFINED | _LIBRARY, wide=True).of(formula))


class _Walk:
    """Goes over one formula; what occurs twice is computed once."""

    def __init__(
        self,
        values: dict[tirx.Var, Array],
        reads: Mapping[tirx.Var, tuple[Array, tuple[Expr, ...]]],
        functions: Mapping[str, Operation],
        wide: bool,
    ) -> None:
        self._known: dict[Expr, Any] = dict(values)
        self._reads, self._functions, self._wide = reads, functions, wide

    def of(self, e: Expr) -> Any:
        if isinstance(e, int | float):
            return e
        if e not in self._known:
            with np.errstate(all="ignore"):
                self._known[e] = self._compute(e)
        return self._known[e]

    def _compute(self, e: Expr) -> Any:
        if isinstance(e, tirx.FloatImm | tirx.IntImm):
            return self._type(e)(e.value)
        if isinstance(e, tirx.Var) and e in self._reads:
            array, indices = self._reads[e]
            # A branch that is not taken may read outside.
            places = [
                np.clip(self.of(i), 0, n - 1) for i, n in zip(indices, array.shape, strict=True)
            ]
            return array[tuple(places)]
        if isinstance(e, tirx.Let):
            self._known[e.var] = self.of(e.value)
            return self.of(e.body)
        if isinstance(e, tirx.Select):
            return np.where(self.of(e.condition), self.of(e.true_value), self.of(e.false_value))
        if isinstance(e, tirx.Cast):
            return np.asarray(self.of(e.value)).astype(self._type(e))
        if isinstance(e, tirx.Not):
            return np.logical_not(self.of(e.a))
        operation = _OPERATIONS.get(type(e))
        if operation is not None:
            return operation(self.of(e.a), self.of(e.b))
        if isinstance(e, ir.Call):
            return self._call(e)
        raise Unknown(type(e).__name__)

    def _call(self, e: Any) -> Any:
        name, arguments = function_of(e)
        if name == "exp" and not self._wide:
            if scalar.type_of(e) != "float32":
                raise Unknown(name)
            return exponential(self.of(arguments[0]))
        if name not in self._functions:
            raise Unknown(name)
        return self._functions[name](*(self.of(a) for a in arguments))

    def _type(self, e: Expr) -> Any:
        kind = scalar.type_of(e)
        return np.dtype("float64" if self._wide and kind == "float32" else kind).type


def function_of(call: Any) -> tuple[str, list[Expr]]:
    """ "tanh" and its arguments, of a call of C's ``tanhf`` or one of TVM's own."""
    name, arguments = str(call.op.name).rpartition(".")[2], list(call.args)
    if name != "call_pure_extern":
        return name, arguments
    last = "f" if scalar.type_of(call) == "float32" else ""
    return str(arguments[0].value).removesuffix(last), arguments[1:]


def _quotient(a: Any, b: Any) -> Any:
    if np.issubdtype(np.asarray(a).dtype, np.floating):
        return a / b
    return np.trunc(a / b).astype(np.asarray(a).dtype)


_OPERATIONS: dict[type, Operation] = {
    tirx.Add: lambda a, b: a + b,
    tirx.Sub: lambda a, b: a - b,
    tirx.Mul: lambda a, b: a * b,
    tirx.Div: _quotient,
    tirx.FloorDiv: lambda a, b: a // b,
    tirx.FloorMod: lambda a, b: a % b,
    tirx.Mod: np.fmod,
    tirx.Min: np.minimum,
    tirx.Max: np.maximum,
    tirx.EQ: lambda a, b: a == b,
    tirx.NE: lambda a, b: a != b,
    tirx.LT: lambda a, b: a < b,
    tirx.LE: lambda a, b: a <= b,
    tirx.GT: lambda a, b: a > b,
    tirx.GE: lambda a, b: a >= b,
    tirx.BitwiseAnd: lambda a, b: a & b,
    tirx.BitwiseOr: lambda a, b: a | b,
    tirx.BitwiseXor: lambda a, b: a ^ b,
    tirx.And: np.logical_and,
    tirx.Or: np.logical_or,
}
DEFINED: dict[str, Operation] = {
    "if_then_else": np.where,
    "ceil": np.ceil,
    "fabs": np.abs,
    "floor": np.floor,
    "isinf": np.isinf,
    "isnan": np.isnan,
    "nearbyint": np.rint,
    "sqrt": np.sqrt,
    "trunc": np.trunc,
}
"""Functions that every core computes to the same bits, beside :func:`exponential`."""
_LIBRARY: dict[str, Operation] = {
    "exp": np.exp,
    "cos": np.cos,
    "log": np.log,
    "log2": np.log2,
    "sin": np.sin,
    "acos": np.arccos,
    "acosh": np.arccosh,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "atanh": np.arctanh,
    "cosh": np.cosh,
    "erf": np.vectorize(math.erf),
    "exp2": np.exp2,
    "expm1": np.expm1,
    "fmod": np.fmod,
    "log10": np.log10,
    "log1p": np.log1p,
    "pow": np.power,
    "sinh": np.sinh,
    "tan": np.tan,
    "tanh": np.tanh,
}
"""Those that C's library computes."""
