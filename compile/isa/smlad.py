"""The DSP instructions of Cortex-M: two products of 16 bits are added in one cycle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from headgate.compile.isa import scalar, soft_float
from headgate.compile.isa.base import Expr
from headgate.compile.isa.scalar import Scalar
from headgate.compile.isa.vector import intrinsic, joined, picked, read_as
from headgate.device.targets import Target
from headgate.device.tensor_type import INT8, INT32, UINT8

Buffer = Any


class Smlad(Scalar):
    """As :class:`Scalar` for kernels of any instructions; those of SMLAD say theirs themselves."""

    fuses_means = False  # USADA8 takes half an instruction for a number that it reads again

    def code(self, value: Expr, least: int, greatest: int, lanes: int) -> Expr:
        """By instructions that saturate, where float32 would be compared with the bounds."""
        value = T.Bind(value)
        parts = [value] if lanes == 1 else [picked(value, [lane]) for lane in range(lanes)]
        return joined([_within(nearest(part), least, greatest) for part in parts], 1)


def multiply_add(left: Expr, right: Expr, total: Expr) -> Expr:
    """``total`` and the products of the low and of the high 16 bits of two words."""
    return intrinsic(INT32, "arm.smlad", left, right, total)


_TWO_WORDS, _HERE = "headgate_two_words", "headgate_here"
_LLVM = f"""
define i64 @{_TWO_WORDS}(ptr %at) {{
  %both = load volatile i64, ptr %at, align 4
  ret i64 %both
}}
define void @{_HERE}() alwaysinline {{
  call void asm sideeffect "", ""() noduplicate
  ret void
}}
"""


@contextmanager
def pairing() -> Iterator[None]:
    """Where :func:`two_words` and :func:`rolled` may be used."""
    with T.attr(tirx.IntImm(INT32, 0), "pragma_import_llvm", _LLVM):
        yield


def two_words(buffer: Buffer, at: Expr) -> tuple[Expr, Expr]:
    """Two int32 from ``at`` on, by the one instruction that loads both.

    LLVM finds the instruction by itself only where it sees two such loads and no third behind
    them; a volatile one of 64 bits is never anything else.
    """
    both = T.Bind(T.call_extern("int64", _TWO_WORDS, T.address_of(buffer[at])))
    high = tirx.shift_right(both, tirx.IntImm("int64", 32))
    return T.Bind(tirx.Cast(INT32, both)), T.Bind(tirx.Cast(INT32, high))


@contextmanager
def rolled(extent: Expr) -> Iterator[Expr]:
    """``for i in range(extent)`` that stays as short as it is written.

    LLVM would write out four turns of it, or all, which takes a third of a kernel's code.
    It does not repeat what may be assembly.
    """
    with T.serial(0, extent) as index:
        T.evaluate(T.call_extern("void", _HERE))
        yield index


def halves(word: Expr, dtype: str, turned: bool) -> Expr:
    """Bytes 0 and 2 of a word, 1 and 3 where it is ``turned``, as numbers of 16 bits."""
    if turned:
        word = intrinsic(INT32, "fshr.i32", word, word, 8)
    return intrinsic(INT32, "arm.uxtb16" if dtype == UINT8 else "arm.sxtb16", word)


def larger(left: Expr, right: Expr, dtype: str) -> Expr:
    """A word of the larger one of each two codes of ``dtype``, which are bytes of two words."""
    return _of_differences(left, right, left, right, dtype)


def smaller(left: Expr, right: Expr, dtype: str) -> Expr:
    """As :func:`larger`, the smaller ones."""
    return _of_differences(left, right, right, left, dtype)


def _of_differences(left: Expr, right: Expr, positive: Expr, negative: Expr, dtype: str) -> Expr:
    """Bytes of ``positive`` where ``left``'s is at least ``right``'s, else of ``negative``."""
    subtract = "llvm.arm.usub8" if dtype == UINT8 else "llvm.arm.ssub8"
    # Flags carry what is found from one instruction to the next, so neither is pure.
    T.Bind(T.call_llvm_intrin(INT32, subtract, left, right))
    return T.Bind(T.call_llvm_intrin(INT32, "llvm.arm.sel", positive, negative))


def nearest(value: Expr) -> Expr:
    """float32 to the nearest int32, ties to even; what does not fit becomes the nearest that does.

    The conversion rounds as FPSCR says, which is so from reset on.
    """
    if soft_float.is_soft():
        return soft_float.nearest(value)
    return read_as(INT32, 1, intrinsic("float32", "arm.vcvtr.f32", value))


def saturated(value: Expr, dtype: str) -> Expr:
    """int32 to the nearest code of ``dtype``."""
    return intrinsic(INT32, "arm.usat" if dtype == UINT8 else "arm.ssat", value, 8)


_DTYPES = {(0, 255): UINT8, (-128, 127): INT8}
"""By the least and the greatest code."""


def _within(value: Expr, least: int, greatest: int) -> Expr:
    """int32 to the nearest that lies within bounds."""
    if (least, greatest) in _DTYPES:
        return saturated(value, _DTYPES[least, greatest])
    return tirx.Min(tirx.Max(value, tirx.IntImm(INT32, least)), tirx.IntImm(INT32, greatest))


def find(target: Target) -> Smlad | None:
    """The instructions as ``target`` runs them, None where it has none."""
    if not target.has("dsp") or target.has("mve"):
        return None
    own = scalar.find(target)
    return None if own is None else Smlad(**{**vars(own), "name": "smlad"})
