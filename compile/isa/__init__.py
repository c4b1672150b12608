"""Instruction sets: one file each, which says whether a target has it and what it costs there.

Nothing else of the compiler reads a target's vectors and caches.
"""

from __future__ import annotations

from headgate.compile.isa import (
    avx2,
    avx512,
    half,
    madd,
    mve,
    neon,
    scalar,
    scalar_float,
    sdot,
    smlad,
    smull,
    vnni,
)
from headgate.compile.isa.base import DotIsa, Isa
from headgate.device.targets import TARGET_NAMES, Target, get_target
from headgate.errors import CompileError

_ALL = (avx512, avx2, neon, half, vnni, madd, sdot, smull, mve, smlad, scalar, scalar_float)
"""The first that a target has for a dtype is taken."""


def isa_for(target: Target, dtype: str) -> Isa:
    """The instructions that kernels of ``dtype`` are written for.

    Raises:
        CompileError: the target has none that the schedules know; names those that have.
    """
    isa = _find(target, dtype)
    if isa is None:
        others = (name for name in TARGET_NAMES if name != "host")
        able = [name for name in others if _find(get_target(name), dtype)]
        raise CompileError(
            f"Target {target.name!r} has no instructions for {dtype}; "
            + (f"those that have: {', '.join(able)}." if able else "no target has.")
        )
    return isa


def _find(target: Target, dtype: str) -> Isa | None:
    found = (file.find(target) for file in _ALL)
    return next((isa for isa in found if isa is not None and isa.dtype == dtype), None)


__all__ = ["DotIsa", "Isa", "isa_for"]
