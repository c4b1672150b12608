"""A formula of floats as code that gives the same bits on every core.

LLVM joins a product and a sum in one instruction where a core has it, and C's libraries differ.
Here each product is rounded by itself, and the exponential is written out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import ir, tirx

from headgate.compile.front.graph import Node
from headgate.compile.front.operators import scalar
from headgate.compile.front.quantize.numbers import (
    DEFINED,
    EXP_FACTORS,
    EXP_RANGE,
    LOG_TWO,
    Unknown,
    function_of,
    numbers_of,
)
from headgate.compile.front.reading import Element
from headgate.compile.isa.vector import intrinsic, read_as
from headgate.device.tensor_type import FLOAT32, INT32

Expr = Any


def exact(element: Element) -> Element:
    """``element`` with the same bits on every core, but for what C's library computes."""

    def written(readers: list[Callable[..., Expr]], *indices: Expr) -> Expr:
        return _Writer().of(element(readers, *indices))

    return written


def is_exact(node: Node) -> bool:
    """Whether the reference defines a ``compute`` node to the bit."""
    if node.attributes.get("reduces"):
        return False
    # One number says it as well as all do.
    one = [np.zeros((1,) * len(v.shape), v.dtype) for v in node.inputs]
    try:
        numbers_of(node["element"], one, (1,) * len(node.output.shape))
    except Unknown:
        return False
    return True


class _Writer:
    """Writes one formula anew."""

    def __init__(self) -> None:
        self._known: dict[Expr, Expr] = {}

    def of(self, e: Expr) -> Expr:
        if not isinstance(e, ir.Expr):
            return e
        if e not in self._known:
            self._known[e] = self._write(e)
        return self._known[e]

    def _write(self, e: Any) -> Expr:
        if isinstance(e, tirx.Mul):
            return _product(self.of(e.a), self.of(e.b))
        if isinstance(e, tirx.Let):
            return tirx.Let(e.var, self.of(e.value), self.of(e.body))
        if isinstance(e, tirx.Select):
            arms = self.of(e.true_value), self.of(e.false_value)
            return tirx.Select(self.of(e.condition), *arms)
        if isinstance(e, tirx.Cast):
            return tirx.Cast(scalar.type_of(e), self.of(e.value))
        if isinstance(e, tirx.Not):
            return tirx.Not(self.of(e.a))
        if isinstance(e, tirx.Reduce):
            source = [self.of(s) for s in e.source]
            rest = e.axis, e.condition, e.value_index, list(e.init)
            return tirx.Reduce(e.combiner, source, *rest)
        if isinstance(e, ir.Call):
            return self._call(e)
        if hasattr(e, "a") and hasattr(e, "b"):
            return type(e)(self.of(e.a), self.of(e.b))
        return e

    def _call(self, e: Any) -> Expr:
        name, arguments = function_of(e)
        if name == "exp" and scalar.type_of(e) == FLOAT32:
            return _exponential(self.of(arguments[0]))
        if name not in DEFINED and e.op.name != "tirx.call_pure_extern":
            return e  # a tensor is read, or TVM has a function of its own
        return ir.Call(e.op, [self.of(a) for a in e.args], ret_ty=e.ty)


def _product(a: Expr, b: Expr) -> Expr:
    kind = scalar.type_of(a if isinstance(a, ir.Expr) else b)
    return intrinsic(kind, "arithmetic.fence", a * b) if kind.startswith("float") else a * b


def _exponential(x: Expr) -> Expr:
    """``numbers.exponential`` as TIR."""

    def number(value: float) -> Expr:
        return tirx.const(value, FLOAT32)

    def of(v: Expr) -> Expr:
        least, most = (number(bound) for bound in EXP_RANGE)
        bounded = scalar.minimum(scalar.maximum(v, least), most)
        return scalar.bound(rounded, [v, bounded])

    def rounded(v: Expr, bounded: Expr) -> Expr:
        # Near it a float32 has no fraction: to nearest, ties to even, also on cores that cannot.
        magic = number(3 << 22)
        moved = _product(bounded, number(1 / math.log(2))) + magic
        n = intrinsic(FLOAT32, "arithmetic.fence", moved) - magic
        return scalar.bound(reduced, [v, bounded, n])

    def reduced(v: Expr, bounded: Expr, n: Expr) -> Expr:
        r = bounded - _product(n, number(LOG_TWO[0]))
        r = r - _product(n, number(LOG_TWO[1]))
        return scalar.bound(powered, [v, tirx.Cast(INT32, n), r])

    def powered(v: Expr, n: Expr, r: Expr) -> Expr:
        value = number(EXP_FACTORS[0])
        for factor in EXP_FACTORS[1:]:
            value = _product(value, r) + number(factor)
        half = tirx.shift_right(n, tirx.const(1, INT32))
        for power in (half, n - half):
            bits = tirx.shift_left(power + 127, tirx.const(23, INT32))
            value = _product(value, read_as(FLOAT32, 1, bits))
        return tirx.Select(tirx.isnan(v), v, value)

    return scalar.bound(of, [x])
