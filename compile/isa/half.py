"""NEON with float16 arithmetic: 8 lanes; four weights are loaded at once and used by element."""

from __future__ import annotations

from headgate.compile.isa.base import Isa
from headgate.compile.isa.neon import LOAD_CYCLES
from headgate.device.targets import Target
from headgate.device.tensor_type import FLOAT16


def find(target: Target) -> Isa | None:
    """The instructions as ``target`` runs them, None where it has none."""
    if target.arch != "aarch64" or not target.has("fullfp16"):
        return None
    # Vectors of 64 and of 128 bits take as long as those of float32.
    time = target.vector_fma_cycles[4]
    cycles = {8: time, 4: time}
    loads = dict.fromkeys(cycles, LOAD_CYCLES)
    return Isa("half", FLOAT16, cycles, loads, cache_bytes=target.l2_bytes, weight_lanes=4)
