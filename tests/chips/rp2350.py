"""RP2350: resets, crystal, PLL, clocks, pads and a PL011."""

from __future__ import annotations

from tests.chips.model import LONG, Chip, Core, Uart, need

CLOCKS, RESETS, IO, PADS = 0x40010000, 0x40020000, 0x40028000, 0x40038000
XOSC, PLL, UART, SIO = 0x40048000, 0x40050000, 0x40070000, 0xD0000000
STABLE = 31
BLOCKS = {IO: 6, PADS: 9, PLL: 14, UART: 26}
"""The bit of each in the register of resets."""
METER = 2


class Rp2350(Chip):
    waits = ("crystal", "reset pll", "reset rest", "to ref", "pll", "to pll", "room", "byte")

    def __init__(self, hasty: str) -> None:
        super().__init__(hasty)
        self.core = Core(self, locked=False)
        self.line = Uart(self, 32, self._baud)
        self.words |= {RESETS: 0x1FFFFFFF, PLL: 1, PLL + 4: 0x2D, PLL + 12: 0x77000}
        self.words |= {CLOCKS + 0x3C: 0x41, CLOCKS + 0x40: 1 << 16, CLOCKS + 0x4C: 1 << 16}
        self.words |= {PADS + 4 + 4 * pin: 0x116 for pin in range(48)}
        self._further = True
        """Whether a further source is what runs the core, whatever was asked for."""
        self._format_is_last = False

    def core_mhz(self) -> float:
        if not self.is_ready("to pll"):
            return 11
        post = self.get(PLL + 12)
        divided = (post >> 16 & 7) * (post >> 12 & 7) * (self.get(CLOCKS + 0x40) >> 16)
        return 12 / (self.get(PLL) & 63) * self.get(PLL + 8) / divided

    def _baud(self) -> float:
        need(self.get(CLOCKS + 0x48) == 1 << 11, "a UART whose clock is off")
        return (
            self.core_mhz() * 1e6 * 4 / max(1, 64 * self.get(UART + 0x24) + self.get(UART + 0x28))
        )

    def _check_reset(self, address: int) -> None:
        bit = BLOCKS.get(address & ~0x3FFF)
        if bit is not None:
            name = "reset pll" if bit == 14 else "reset rest"
            need(not self.bit(RESETS, bit) and self.is_ready(name), "a block that is in reset")

    def _settle(self) -> None:
        if self.is_ready("to ref"):
            self._further = self.is_ready("to pll")

    def on_read(self, address: int) -> int:
        self._settle()
        self._check_reset(address)
        if address >= 0xE0000000:
            return self.core.read(address)
        if address == RESETS + 8:
            out = ~self.get(RESETS)
            shown = 1 << 14 if self.shows("reset pll") else 0
            shown |= 1 << 6 | 1 << 9 | 1 << 26 if self.shows("reset rest") else 0
            return out & shown
        if address == XOSC + 4:
            return self.shows("crystal") << STABLE
        if address == PLL:
            return self.get(PLL) | self.shows("pll") << STABLE
        if address == CLOCKS + 0x44:
            asked = self.get(CLOCKS + 0x3C) & 1
            return 1 << (asked if self.shows("to pll" if asked else "to ref") else self._further)
        if address == UART + 0x18:
            return (not self.line.shows_byte()) << 4 | (not self.line.shows_room()) << 5
        if address == UART:
            need(self._is_routed(1), "the UART's input is on no pin")
            return self.line.take()
        return self.get(address)

    def _is_routed(self, pin: int, function: int = 2) -> bool:
        pad = self.get(PADS + 4 + 4 * pin)
        usable = not pad >> 8 & 1 and not pad >> 7 & 1 and pad >> 6 & 1
        return bool(usable) and self.get(IO + 4 + 8 * pin) == function

    def on_write(self, address: int, old: int, value: int) -> None:
        self._settle()
        self._check_reset(address)
        if address >= 0xE0000000:
            self.core.write(address, old, value)
        elif address == RESETS:
            freed = old & ~value
            if freed:
                self.start("reset pll" if freed == 1 << 14 else "reset rest")
        elif address == XOSC and value >> 12 == 0xFAB:
            need(
                value & 0xFFF == 0xAA0 and self.get(XOSC + 12) >= 47, "a crystal's start too short"
            )
            self.start("crystal", 2 * LONG)
        elif PLL <= address < PLL + 16:
            self._pll(address, old, value)
        elif CLOCKS <= address < CLOCKS + 0x100:
            self._clock(address, old, value)
        elif PADS < address < PADS + 0x100 and old & ~value & 1 << 8:
            pin = (address - PADS - 4) // 4
            need(self.get(IO + 4 + 8 * pin), "a pad that is let in before anything drives it")
        elif address == UART + 0x30 and value:
            need(self._format_is_last, "a divider that counts only from the next format on")
        elif UART + 0x24 <= address <= UART + 0x2C:
            self._format_is_last = address == UART + 0x2C and value == 0x70
        elif address == UART:
            need(self.get(UART + 0x30) == 0x301, "a byte for a UART that is off")
            need(self._is_routed(0), "the UART's output is on no pin")
            self.line.send(value)
        elif address in (SIO + 0x18, SIO + 0x20):
            need(value == 1 << METER, "levels of other pins")
            need(
                self._is_routed(METER, 5) and self.get(SIO + 0x38) == value, "a pin without output"
            )
            self.levels.append(int(address == SIO + 0x18))

    def _pll(self, address: int, old: int, value: int) -> None:
        used = self._further and not self.get(CLOCKS + 0x3C) & 0xE0
        need(not used, "a PLL that is changed while it is used")
        if address == PLL + 8:
            need(value in range(16, 321) and 750 <= 12 * value <= 1600, "a PLL out of its range")
            need(self.get(PLL + 4) & 0x21, "dividers of a PLL that is on")
        if address == PLL + 4 and old & ~value & 0x21:
            need(self.is_ready("crystal"), "a PLL from a crystal that is not stable")
            self.start("pll")
        if address == PLL + 4 and old & ~value & 8:
            need(self.is_ready("pll"), "the output of a PLL that is not stable")

    def _clock(self, address: int, old: int, value: int) -> None:
        if address != CLOCKS + 0x3C:
            return
        need(not (old ^ value) & 0xE0 or not self._further, "a source that changes while used")
        if old & ~value & 1:
            self.start("to ref", LONG)
        if value & ~old & 1:
            need(not value & 0xE0, "a further source that is not the PLL")
            need(self.is_ready("pll") and not self.get(PLL + 4) & 0x29, "a PLL that is not stable")
            self.start("to pll", LONG)
