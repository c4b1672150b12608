"""Helium, the vectors of Cortex-M55: sixteen products of codes are added to one sum."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from headgate.compile.isa import scalar
from headgate.compile.isa.base import Expr
from headgate.compile.isa.scalar import Scalar
from headgate.compile.isa.smlad import nearest as nearest_of_one
from headgate.compile.isa.vector import intrinsic, named
from headgate.device.targets import Target
from headgate.device.tensor_type import INT32, UINT8

Buffer = Any

BYTES = 16
"""Of a vector."""


class Mve(Scalar):
    """As :class:`Scalar` for kernels of any instructions, whose four lanes are a vector here."""

    fuses_means = False  # VADDVA takes an eighth of an instruction for a number that it reads again

    def operand(self, dtype: str) -> str:
        return dtype

    def rounded(self, value: Expr, lanes: int) -> Expr:
        return nearest(value, lanes)


def _flag(value: int) -> Expr:
    """What an instruction is told when compiling."""
    return tirx.IntImm(INT32, value)


def multiply_add(left: Expr, right: Expr, total: Expr) -> Expr:
    """``total`` and the products of two vectors of int8."""
    signed, added, in_order = _flag(0), _flag(0), _flag(0)
    return intrinsic(INT32, "arm.mve.vmldava", signed, added, in_order, total, left, right)


def sum_of(vector: Expr, dtype: str) -> Expr:
    """The sum of a vector's numbers, which are of ``dtype``."""
    return intrinsic(INT32, "arm.mve.addv", vector, _flag(dtype == UINT8))


def nearest(value: Expr, lanes: int) -> Expr:
    """float32 to the nearest int32, ties to even; beyond int32 the nearest that it holds."""
    if lanes == 1:
        return nearest_of_one(value)
    return intrinsic(named(INT32, lanes), "arm.mve.vcvtn", _flag(0), value)


def take(buffer: Buffer, at: Expr, offsets: Expr, lanes: int) -> Expr:
    """Bytes at ``offsets`` (uint16, lanes) from ``at`` on, widened to 16 bits by their sign."""
    bits, unscaled, signed = _flag(8), _flag(0), _flag(0)
    return T.Bind(
        T.call_llvm_intrin(
            named("int16", lanes),
            "llvm.arm.mve.vldr.gather.offset",
            *(T.address_of(buffer[at]), offsets, bits, unscaled, signed),
        )
    )


def put(buffer: Buffer, at: Expr, offsets: Expr, value: Expr) -> None:
    """Stores the low bytes of numbers of 16 bits at ``offsets`` (uint16) from ``at`` on."""
    bits, unscaled = _flag(8), _flag(0)
    T.evaluate(
        T.call_llvm_intrin(
            "void",
            "llvm.arm.mve.vstr.scatter.offset",
            *(T.address_of(buffer[at]), offsets, value, bits, unscaled),
        )
    )


def find(target: Target) -> Mve | None:
    """The instructions as ``target`` runs them, None where it has none."""
    if not target.has("mve"):
        return None
    own = scalar.find(target)
    return None if own is None else Mve(**{**vars(own), "name": "mve"})
