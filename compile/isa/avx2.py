"""AVX2 with FMA: 8 lanes of float32; a weight is broadcast from memory by the instruction that
uses it.
"""

from __future__ import annotations

from headgate.compile.isa.base import Isa
from headgate.device.targets import Target
from headgate.device.tensor_type import FLOAT32


def find(target: Target) -> Isa | None:
    """The instructions as ``target`` runs them, None where it has none or wider ones."""
    cycles = target.vector_fma_cycles
    if target.arch != "x86_64" or 16 in cycles:
        return None
    return Isa("avx2", FLOAT32, cycles, load_cycles=cycles, cache_bytes=target.l2_bytes)
