"""AVX-512: 16 lanes of float32; a weight is broadcast from memory by the instruction that uses it.

A core may multiply 8 lanes faster than half of 16, so both widths are tried.
"""

from __future__ import annotations

from headgate.compile.isa.base import Isa
from headgate.device.targets import Target
from headgate.device.tensor_type import FLOAT32


def find(target: Target) -> Isa | None:
    """The instructions as ``target`` runs them, None where it has none."""
    cycles = target.vector_fma_cycles
    if target.arch != "x86_64" or 16 not in cycles:
        return None
    return Isa("avx512", FLOAT32, cycles, load_cycles=cycles, cache_bytes=target.l2_bytes)
