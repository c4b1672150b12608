"""Cores without an FPU: LLVM calls the compiler's library for floats, and these for the rest.

The functions are those of ``runtime/baremetal/soft_float.c``.
"""

from __future__ import annotations

from tvm.target import Target as TvmTarget
from tvm.tirx.script import builder as T

from headgate.compile.isa.base import Expr
from headgate.device.tensor_type import INT32


def is_soft() -> bool:
    """Whether the target that code is being made for (TVM's current one) has no FPU."""
    target = TvmTarget.current(allow_none=True)
    return target is not None and target.attrs.get("mfloat-abi") == "soft"


def nearest(value: Expr) -> Expr:
    """float32 to the nearest int32, as VCVTR does."""
    return T.call_extern(INT32, "headgate_nearest", value)


def nearest_scaled(total: Expr, scale: Expr, shift: Expr) -> Expr:
    """The int32 nearest to ``total x scale + shift``, each rounded to float32."""
    return T.call_extern(INT32, "headgate_nearest_scaled", total, scale, shift)


def nearest_added(total: Expr, scale: Expr, shift: Expr, own: Expr, own_scale: Expr) -> Expr:
    """The int32 nearest to ``(total x scale + shift) + own x own_scale``, each rounded."""
    name = "headgate_nearest_added"
    return T.call_extern(INT32, name, total, scale, shift, own, own_scale)
