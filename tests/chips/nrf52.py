"""nRF52840: the crystal, GPIO and the UART without DMA."""

from __future__ import annotations

from tests.chips.model import LONG, Chip, Core, Uart, need

CLOCK, UART, P1 = 0x40000000, 0x40002000, 0x50000300
TX, RX, METER = 3, 10, 11
"""Pins of port 1."""
BAUD_OF = {0x01D7E000: 115942}


class Nrf52(Chip):
    waits = ("crystal", "room", "byte")
    _seen = True

    def __init__(self, hasty: str) -> None:
        super().__init__(hasty)
        self.core = Core(self, locked=False)
        self.line = Uart(self, 1, lambda: BAUD_OF.get(self.get(UART + 0x524), 0))
        self.words |= {P1 + 0x700 + 4 * pin: 2 for pin in range(32)}
        self._sending = False

    def core_mhz(self) -> float:
        return 64 if self.is_ready("crystal") else 63

    def on_read(self, address: int) -> int:
        if address >= 0xE0000000:
            return self.core.read(address)
        if address == CLOCK + 0x100:
            return int(self.shows("crystal"))
        if address == UART + 0x11C:
            gone = self._sending and self.line.is_empty()
            return int(gone or self.hasty == "room")
        if address == UART + 0x108:
            return int(self.line.shows_byte())
        if address == UART + 0x518:
            need(not self._seen, "a byte that is read before its event is cleared")
            self._seen = True
            return self.line.take()
        return self.get(address)

    def on_write(self, address: int, old: int, value: int) -> None:
        if address >= 0xE0000000:
            self.core.write(address, old, value)
        elif address == CLOCK:
            self.start("crystal", LONG)
        elif address == UART + 0x108:
            self._seen = False
        elif address == UART + 0x11C:
            self._sending = False
        elif address == UART + 0x500:
            pins = self.get(UART + 0x50C), self.get(UART + 0x514)
            need(value == 4 and pins == (32 + TX, 32 + RX), "a UART on other pins")
            modes = [self.get(P1 + 0x700 + 4 * pin) & 3 for pin in (TX, RX)]
            need(modes == [3, 0], "pins that are no output and input")
        elif address in (UART, UART + 8):
            need(self.get(UART + 0x500) == 4, "a UART that is off")
            need(self.is_ready("crystal"), "a speed that is not exact")
        elif address == UART + 0x51C:
            need(self.get(UART + 8), "a byte before the transmitter is on")
            self.line.send(value)
            self._sending = True
        elif address in (P1 + 0x508, P1 + 0x50C) and value == 1 << METER:
            need(self.get(P1 + 0x518) == 1 << METER, "a pin without output")
            self.levels.append(int(address == P1 + 0x508))
        elif address in (P1 + 0x508, P1 + 0x50C):
            need(value == 1 << TX, "levels of other pins")
