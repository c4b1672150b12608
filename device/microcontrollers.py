"""Microcontroller boards by name: their memories, clock and serial line."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from headgate.device.schema import decode
from headgate.device.targets import TABLE, emulated_microcontrollers
from headgate.errors import UsageError, suggest

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
    pin: int | None = None
    """The address of the GPIO block whose pin 0 tells a meter of a measured window."""
    pin_kind: str | None = None
    """Which driver, ``runtime/baremetal/pin_KIND.c``."""
    boot: str | None = None
    """What its boot ROM looks for, ``runtime/project/boot_KIND.c``."""
    pyocd: str | None = None
    """What pyOCD calls its chip."""
    uf2_family: int | None = None
    """The chip's number in UF2 files, None: it takes none."""
    uf2_board: str | None = None
    """The ``Board-ID`` of the drive that takes UF2 files."""

    @property
    def is_emulated(self) -> bool:
        return self.name in emulated_microcontrollers().values()


@cache
def microcontrollers() -> dict[str, Microcontroller]:
    """Those of ``targets.toml``."""
    rows = TABLE["microcontroller"].items()
    return {name: decode(Microcontroller, {"name": name, **row}, strict=True) for name, row in rows}


def get_microcontroller(name: str) -> Microcontroller:
    """The one called ``name``; a UsageError if there is none."""
    if name not in microcontrollers():
        raise UsageError(f"unknown board {name!r}.{suggest(name, microcontrollers())}")
    return microcontrollers()[name]
