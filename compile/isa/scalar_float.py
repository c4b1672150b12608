"""float32 on Cortex-M: without Helium, LLVM makes four numbers of a vector's four lanes."""

from __future__ import annotations

from headgate.compile.isa.base import Isa
from headgate.device.targets import Target
from headgate.device.tensor_type import FLOAT32


def find(target: Target) -> Isa | None:
    """The instructions as ``target`` runs them, None where an operating system runs on vectors."""
    if target.os != "none":
        return None
    name = "mve" if target.has("mve") else "scalar"
    return Isa(name, FLOAT32, {4: 4.0}, load_cycles={4: 4.0}, cache_bytes=target.l2_bytes)
