"""NEON of 64-bit Arm: 4 lanes of float32; four weights are loaded at once and used by element."""

from __future__ import annotations

from headgate.compile.isa.base import Isa
from headgate.device.targets import Target
from headgate.device.tensor_type import FLOAT32

LOAD_CYCLES = 0.5
"""Cores that start one multiply-accumulate a cycle start two loads; the faster ones two of each."""


def find(target: Target) -> Isa | None:
    """The instructions as ``target`` runs them, None where it has none."""
    if target.arch != "aarch64":
        return None
    cycles = target.vector_fma_cycles
    loads = dict.fromkeys(cycles, LOAD_CYCLES)
    return Isa("neon", FLOAT32, cycles, loads, cache_bytes=target.l2_bytes, weight_lanes=4)
