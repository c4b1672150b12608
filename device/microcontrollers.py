"""Microcontroller boards by name: their memories, clock and serial line."""

from __future__ import annotations

import re
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
    chip: str | None = None
    """What sets up its clocks and the UART's pins, ``runtime/baremetal/chip_KIND.c``; None: its
    clock is right after reset."""
    uart: int | None = None
    """The UART's address."""
    uart_kind: str | None = None
    """Which driver, ``runtime/baremetal/uart_KIND.c``."""
    uart_clock_mhz: int | None = None
    """What the UART counts, None: the core's clock."""
    uart_steps: int = 1
    """The parts of that clock that its divider counts."""
    uart_tx: str | None = None
    """The pins that the UART is led to, as their chip calls them: ``PG7``, ``P1.03``, ``GPIO0``."""
    uart_rx: str | None = None
    uart_usb: bool = False
    """Whether its debug probe shows the UART to computers as a serial port; else these pins are for
    an adapter."""
    uart_function: int | None = None
    """The number of the UART among what these pins can be."""
    pin: int | None = None
    """The address of the GPIO block by one of whose pins a meter is told of a measured window."""
    pin_number: int = 0
    """Which of that block's."""
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

    @property
    def is_flashed(self) -> bool:
        """Whether headgate writes programs to it; others are for tools of their own."""
        return self.pyocd is not None or self.uf2_family is not None

    @property
    def port(self) -> str:
        """What ``--on`` takes to talk to it; ``PORT`` is for the user to fill in."""
        return "serial:/dev/ttyACM0" if self.uart_usb else "serial:PORT"

    @property
    def uart_place(self) -> str:
        """Where its serial line is."""
        if self.uart_tx is None:
            return "its UART"
        return f"the pins {self.uart_tx} (out) and {self.uart_rx} (in)"


_PIN = re.compile(r"P([A-K])(1[0-5]|\d)|P([01])\.([0-2]\d|3[01])|GPIO([1-4]?\d)")


def pin_index(name: str) -> int:
    """A pin's number among all of its chip, after 16 or 32 for each port before its own."""
    found = _PIN.fullmatch(name)
    if found is None:
        raise ValueError(f"{name!r} is no pin")
    letter, of_16, port, of_32, number = found.groups()
    if letter is not None:
        return 16 * (ord(letter) - ord("A")) + int(of_16)
    return int(number) if port is None else 32 * int(port) + int(of_32)


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
