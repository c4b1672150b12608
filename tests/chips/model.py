"""What the models of chips share: registers, time, and what is forbidden.

A model has the registers that firmware uses, after the sources that device/MICROCONTROLLERS.md
names. What the chip forbids is a :class:`Violation`: a clock that is used before it is stable, a
byte for a UART that is full, a block whose clock is off. Time is the number of accesses.

Flags that firmware waits for have names. Of a ``hasty`` one the flag is set before its time has
come, so that firmware goes on as if it did not wait: the model has to notice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

DELAY = 40
"""Accesses until something is ready; ``LONG`` is more than firmware has until it uses a thing."""
LONG = 5000
BAUD = 115200


class Violation(Exception):
    """Firmware did what the chip forbids."""


def need(condition: object, why: str) -> None:
    if not condition:
        raise Violation(why)


class Chip:
    """Registers by address; a subclass says what is read of them, and what a write does."""

    waits: tuple[str, ...] = ()
    """The names of all its flags."""

    def __init__(self, hasty: str) -> None:
        assert not hasty or hasty in self.waits
        self.hasty = hasty
        self.words: dict[int, int] = {}
        self.time = self.blocks = 0
        self._due: dict[str, int] = {}
        self.sent, self.incoming = bytearray(), deque[int]()
        self.levels: list[int] = []
        """What the meter's pin was set to, once it is an output."""
        self.idle = 0
        """How often firmware has looked at the UART without a byte in or out."""

    def start(self, name: str, delay: int = DELAY) -> None:
        """From now on it takes ``delay`` until the thing is ready."""
        self._due[name] = self.time + delay

    def stop(self, name: str) -> None:
        self._due.pop(name, None)

    def is_ready(self, name: str) -> bool:
        return name in self._due and self.time >= self._due[name]

    def shows(self, name: str) -> bool:
        """What the flag says."""
        return self.is_ready(name) or (self.hasty == name and name in self._due)

    def get(self, address: int) -> int:
        return self.words.get(address, 0)

    def bit(self, address: int, number: int) -> bool:
        return bool(self.get(address) >> number & 1)

    def read(self, address: int) -> int:
        self.time += 1
        return self.on_read(address)

    def write(self, address: int, value: int) -> None:
        self.time += 1
        old = self.get(address)
        self.words[address] = value
        self.on_write(address, old, value)

    def on_read(self, address: int) -> int:
        raise NotImplementedError

    def on_write(self, address: int, old: int, value: int) -> None:
        raise NotImplementedError

    def core_mhz(self) -> float:
        raise NotImplementedError


class Uart:
    """The two sides of a UART: bytes out, each of which takes a while, and bytes in."""

    def __init__(self, chip: Chip, depth: int, speed: Callable[[], float]) -> None:
        self._chip, self._depth, self._speed = chip, depth, speed
        self._leaving = deque[int]()

    def _settle(self) -> None:
        while self._leaving and self._leaving[0] <= self._chip.time:
            self._leaving.popleft()

    def shows_room(self) -> bool:
        self._settle()
        return len(self._leaving) < self._depth or self._chip.hasty == "room"

    def send(self, byte: int) -> None:
        self._settle()
        need(len(self._leaving) < self._depth, "a byte for a UART that is full")
        need(abs(self._speed() / BAUD - 1) < 0.01, f"{self._speed():.0f} baud")
        last = self._leaving[-1] if self._leaving else self._chip.time
        self._leaving.append(last + DELAY)
        self._chip.sent.append(byte)
        self._chip.idle = 0

    def is_empty(self) -> bool:
        """Whether all that was sent has left."""
        self._settle()
        return not self._leaving

    def shows_byte(self) -> bool:
        self._chip.idle += 1
        return bool(self._chip.incoming) or self._chip.hasty == "byte"

    def take(self) -> int:
        need(self._chip.incoming, "reading a byte that has not come")
        self._chip.idle = 0
        return self._chip.incoming.popleft()


class Core:
    """The blocks of a Cortex-M that firmware uses: DWT, which may be locked, and caches."""

    def __init__(self, chip: Chip, locked: bool) -> None:
        self._chip, self._locked = chip, locked
        self._cycles = self._invalidated = 0
        self._clean = False
        self.caches = 0
        """Bits of CCR: what is on."""

    def read(self, address: int) -> int:
        counts = self._chip.bit(0xE000EDFC, 24) and self._chip.bit(0xE0001000, 0)
        if address == 0xE0001004 and counts:
            self._cycles += 100
            return self._cycles & 0xFFFFFFFF
        if address == 0xE000ED80:  # a data cache of 16 KB: 128 sets, 4 ways
            return 0xF00FE019
        if address == 0xE000E018:  # SysTick, which only counts here
            return self._chip.time & 0xFFFFFF
        return self._chip.get(address)

    def write(self, address: int, old: int, value: int) -> None:
        if address == 0xE0001FB0 and value == 0xC5ACCE55:
            self._locked = False
        elif address in (0xE0001000, 0xE0001004) and self._locked:
            self._chip.words[address] = old
        elif address == 0xE000EF50:
            self._clean = True
        elif address == 0xE000EF60:
            self._invalidated += 1
        elif address == 0xE000ED14:
            need(self._clean or not value >> 17 & 1, "an instruction cache full of nonsense")
            need(self._invalidated >= 512 or not value >> 16 & 1, "a data cache full of nonsense")
            self.caches = value & 3 << 16
