"""Instruction sets: one file each, which says whether a target has it and what it costs there.

Nothing else of the compiler reads a target's vectors and caches.
"""

from __future__ import annotations

from headgate.compile.isa import avx2, avx512, madd, neon, sdot, smull, vnni
from headgate.compile.isa.base import DotIsa, Isa
from headgate.device.targets import Target
from headgate.errors import CompileError

_ALL = (avx512, avx2, neon, vnni, madd, sdot, smull)
"""The first that a target has for a dtype is taken."""


def isa_for(target: Target, dtype: str) -> Isa:
    """The instructions that kernels of ``dtype`` are written for.

    Raises:
        CompileError: the target has none that the schedules know.
    """
    for file in _ALL:
        isa = file.find(target)
        if isa is not None and isa.dtype == dtype:
            return isa
    raise CompileError(f"Target {target.name!r} has no instructions for {dtype} that are known.")


__all__ = ["DotIsa", "Isa", "isa_for"]
