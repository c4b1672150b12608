"""What instruction sets say with TIR: intrinsics of LLVM, and vectors read as other numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

Expr = Any


def intrinsic(dtype: str, name: str, *arguments: Expr) -> Expr:
    """The result of LLVM's ``llvm.name``, which has no side effects."""
    return T.call_llvm_pure_intrin(dtype, f"llvm.{name}", *arguments)


def named(dtype: str, lanes: int) -> str:
    """TIR's name of a vector's type."""
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def read_as(dtype: str, lanes: int, value: Expr) -> Expr:
    """The same bits as a vector of other numbers."""
    return tirx.reinterpret(named(dtype, lanes), value)


def splat(value: float, lanes: int, dtype: str) -> Expr:
    """A constant in every lane."""
    constant = tirx.const(value, dtype)
    return constant if lanes == 1 else tirx.Broadcast(constant, lanes)


def picked(value: Expr, places: Sequence[int]) -> Expr:
    """The elements at ``places``."""
    return T.Shuffle([value], [tirx.IntImm("int32", place) for place in places])


def joined(parts: Sequence[Expr], lanes: int) -> Expr:
    """Vectors of ``lanes`` each, one behind the other."""
    places = [tirx.IntImm("int32", place) for place in range(lanes * len(parts))]
    return T.Shuffle(list(parts), places) if len(parts) > 1 else parts[0]
