"""Microcontroller boards by name: their memories, clock and serial line."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from headgate.device.schema import decode
from headgate.device.targets import TABLE

STACK_BYTES = 8 << 10
"""The least that firmware leaves for the stack."""


@dataclass(frozen=True)
class Memory:
    """A block of memory."""

    address: int
    kib: int

    @property
    def bytes(self) -> int:
        return self.kib << 10


@dataclass(frozen=True)
class Microcontroller:
    """A board with a microcontroller; without ``uart`` there is no driver for its serial line."""

    name: str
    model: str
    target: str
    clock_mhz: int
    flash: Memory
    ram: Memory
    uart: int | None = None
    """The UART's address."""
    uart_kind: str | None = None
    """Which driver, ``runtime/baremetal/uart_KIND.c``."""


@cache
def microcontrollers() -> dict[str, Microcontroller]:
    """Those of ``targets.toml``."""
    rows = TABLE["microcontroller"].items()
    return {name: decode(Microcontroller, {"name": name, **row}, strict=True) for name, row in rows}
