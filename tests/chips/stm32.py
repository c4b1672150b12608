"""ST's L4, L4+ and H7A3: RCC, PWR, flash, GPIO and UARTs."""

from __future__ import annotations

from typing import Any

from tests.chips.model import LONG, Chip, Core, Uart, need


class Stm32(Chip):
    """``tx`` and ``rx`` are (port, pin), ``function`` is their alternate function's number."""

    gpio: int
    enable_ports: int
    enable_uart: tuple[int, int]
    """The register and the bit of the UART's clock."""
    uart: int
    uart_parts = 1
    locked = False
    waits = ("uart", "room", "byte")

    def __init__(
        self,
        hasty: str,
        *,
        tx: tuple[int, int],
        rx: tuple[int, int],
        function: int,
        meter: tuple[int, int],
    ) -> None:
        super().__init__(hasty)
        self._tx, self._rx, self._function, self._meter = tx, rx, function, meter
        self.core = Core(self, self.locked)
        self.line = Uart(self, 1, self._baud)
        for port in range(11):
            self.words[self.gpio + port * 0x400] = 0xFFFFFFFF  # all pins analog

    def bus_hz(self) -> float:
        """The clock that the UART counts."""
        raise NotImplementedError

    def _baud(self) -> float:
        return self.bus_hz() * self.uart_parts / max(1, self.get(self.uart + 0x0C))

    def _mode(self, pin: tuple[int, int]) -> int:
        return self.get(self.gpio + pin[0] * 0x400) >> 2 * pin[1] & 3

    def _is_routed(self, pin: tuple[int, int]) -> bool:
        port, at = self.gpio + pin[0] * 0x400, pin[1]
        function = self.get(port + 0x20 + at // 8 * 4) >> at % 8 * 4 & 15
        return (self._mode(pin), function) == (2, self._function)

    def _check_clock(self, address: int) -> None:
        port = (address - self.gpio) // 0x400
        if 0 <= port < 11:
            need(self.bit(self.enable_ports, port), f"GPIO port {port} without a clock")
        if address & ~0x3FF == self.uart:
            need(self.bit(*self.enable_uart), "a UART without a clock")

    def on_read(self, address: int) -> int:
        self._check_clock(address)
        if address >= 0xE0000000:
            return self.core.read(address)
        if address == self.uart + 0x1C:
            if not self.shows("uart"):
                return 0xC0
            return self.line.shows_byte() << 5 | self.line.shows_room() << 7 | 3 << 21
        if address == self.uart + 0x24:
            need(self.is_ready("uart"), "a byte before the receiver is on")
            need(self._is_routed(self._rx), "the UART's input is on no pin")
            return self.line.take()
        return self.get(address)

    def on_write(self, address: int, old: int, value: int) -> None:
        self._check_clock(address)
        if address >= 0xE0000000:
            self.core.write(address, old, value)
        elif address == self.uart:
            need(not value & ~0xD, "CR1 with more than UE, RE and TE")
            if value == 0xD:
                self.start("uart", LONG)
            else:
                self.stop("uart")
        elif address in (self.uart + 0x08, self.uart + 0x0C):
            need(not self.bit(self.uart, 0), "settings of a UART that is on")
        elif address == self.uart + 0x28:
            need(self.is_ready("uart"), "a byte before the transmitter is on")
            need(self._is_routed(self._tx), "the UART's output is on no pin")
            self.line.send(value)
        elif address == self.gpio + self._meter[0] * 0x400 + 0x18:
            need(self._mode(self._meter) == 1, "a level for a pin that is no output")
            mask = 1 << self._meter[1]
            need(value in (mask, mask << 16), "levels of other pins")
            self.levels.append(int(value == mask))


class L4(Stm32):
    """HSI16 and the PLL; an L4+ has a boost mode for what is above 80 MHz."""

    gpio, enable_ports = 0x48000000, 0x4002104C
    enable_uart, uart, uart_parts = (0x4002105C, 0), 0x40008000, 256
    waits = ("hsi", "pll", "flash", "switch", *Stm32.waits)
    mhz_of_a_wait_state = 16
    plus = False

    def __init__(self, hasty: str, **pins: Any) -> None:
        super().__init__(hasty, **pins)
        self.words |= {0x40021000: 0x63, 0x40022000: 0x600, 0x40007000: 0x200, 0x40007080: 0x100}
        self._wait_states = 0
        self._switched: int | None = None

    def _pll_mhz(self) -> float:
        setting = self.get(0x4002100C)
        into = 16 / ((setting >> 4 & 15) + 1)
        vco = into * (setting >> 8 & 127)
        need(setting & 3 == 2 and setting >> 24 & 1, "a PLL without HSI16 or without an output")
        need(4 <= into <= 16 and 64 <= vco <= 344, f"a PLL of {into} and {vco} MHz")
        return vco / (2 * (setting >> 25 & 3) + 2)

    def core_mhz(self) -> float:
        divided = 2 if self.get(0x40021008) >> 4 & 15 == 8 else 1
        return self._pll_mhz() / divided if self.is_ready("switch") else 4

    def bus_hz(self) -> float:
        return self.core_mhz() * 1e6

    def _settle(self) -> None:
        if self.is_ready("flash"):
            self._wait_states = self.get(0x40022000) & 15
        if self.is_ready("switch") and self._switched is None:
            self._switched = self.blocks

    def on_read(self, address: int) -> int:
        self._settle()
        value = super().on_read(address)
        if address == 0x40021000:
            return value | self.shows("hsi") << 10 | self.shows("pll") << 25
        if address == 0x40021008:
            return value & ~0xC | 0xC * self.shows("switch")
        if address == 0x40022000 and not self.shows("flash"):
            return value & ~15 | self._wait_states
        return value

    def on_write(self, address: int, old: int, value: int) -> None:
        self._settle()
        super().on_write(address, old, value)
        if 0x40007000 <= address < 0x40007400:
            need(self.bit(0x40021058, 28), "PWR without a clock")
        elif address == 0x40021000:
            if value & ~old & 1 << 8:
                self.start("hsi")
            if value & ~old & 1 << 24:
                need(self.is_ready("hsi"), "a PLL from an oscillator that is not stable")
                self._pll_mhz()
                self.start("pll", LONG)
        elif address == 0x4002100C:
            need(not self.bit(0x40021000, 24), "settings of a PLL that is on")
        elif address == 0x40022000:
            need(value & ~15 == 0x600, "caches of flash that are not as after reset")
            self.start("flash")
        elif address == 0x40021008:
            self._clock(old, value)
        elif address == self.uart + 0x28 and self._tx[0] == 6:
            need(self.bit(0x40007004, 9), "port G is cut off from its supply")

    def _clock(self, old: int, value: int) -> None:
        fast = self._pll_mhz() > 80
        if value & 3 == 3 and old & 3 != 3:
            need(self.is_ready("pll"), "the core by a PLL that is not stable")
            need(not fast or (self.plus and not self.bit(0x40007080, 8)), "too fast without boost")
            need(not fast or value >> 4 & 15 == 8, "above 80 MHz at once")
            least = -(-self._pll_mhz() // self.mhz_of_a_wait_state) - 1
            need(self._wait_states >= least, "flash that is too slow for the core")
            self.start("switch", 2 * LONG)
        elif fast and value & 3 == 3 and not value >> 4 & 15:
            # A microsecond at 60 MHz; a block of code takes a cycle at least.
            since = self.blocks if self._switched is None else self._switched
            need(self.blocks - since >= 60, "above 80 MHz before a microsecond is over")


class L4Plus(L4):
    mhz_of_a_wait_state, plus = 20, True


class H7A3(Stm32):
    """The step-down converter, HSI and PLL1."""

    gpio, enable_ports = 0x58020000, 0x58024540
    enable_uart, uart = (0x58024548, 18), 0x40004800
    waits = ("supply", "voltage", "pll", "flash", "switch", *Stm32.waits)
    locked = True  # a Cortex-M7's DWT

    def __init__(self, hasty: str, **pins: Any) -> None:
        super().__init__(hasty, **pins)
        self.words |= {0x5802480C: 0x6, 0x58024400: 0x25, 0x52002000: 0x13, 0x58024430: 0x01010280}
        self.words |= {0x58024428: 0x02020200, 0x5802442C: 0x01FF0000}
        self._wait_states = 3

    def _pll_mhz(self) -> float:
        source, setting, dividers = (self.get(0x58024400 + at) for at in (0x28, 0x2C, 0x30))
        into = 64 / (source >> 4 & 63)
        vco = into * ((dividers & 511) + 1)
        need(source & 3 == 0 and setting >> 16 & 1, "a PLL without HSI or without an output")
        need(setting & 15 == 4 and 2 <= into <= 4, f"a PLL that takes {into} MHz")
        need(128 <= vco <= 560, f"a PLL of {vco} MHz")
        return vco / ((dividers >> 9 & 127) + 1)

    def core_mhz(self) -> float:
        return self._pll_mhz() if self.is_ready("switch") else 64

    def bus_hz(self) -> float:
        return self.core_mhz() * 1e6 / 2

    def on_read(self, address: int) -> int:
        if self.is_ready("flash"):
            self._wait_states = self.get(0x52002000) & 15
        value = super().on_read(address)
        if address == 0x58024804:
            return value | self.shows("supply") << 13
        if address == 0x58024818:
            return value & ~(1 << 13) | self.shows("voltage") << 13
        if address == 0x58024400:
            return value | self.shows("pll") << 25
        if address == 0x58024410:
            return value & ~(7 << 3) | (3 << 3) * self.shows("switch")
        if address == 0x52002000 and not self.shows("flash"):
            return value & ~15 | self._wait_states
        return value

    def on_write(self, address: int, old: int, value: int) -> None:
        super().on_write(address, old, value)
        if address == 0x5802480C:
            need(value & 63 == 4, "a supply that this board has not")
            self.start("supply")
        elif address == 0x58024818:
            need(self.is_ready("supply"), "a voltage before its supply is there")
            need(value >> 14 & 3 == 3, "a voltage too low for 280 MHz")
            self.start("voltage", 2 * LONG)
        elif address == 0x52002000:
            self.start("flash", LONG)
        elif address in (0x58024428, 0x5802442C, 0x58024430):
            need(not self.bit(0x58024400, 24), "settings of a PLL that is on")
        elif address == 0x58024400 and value & ~old & 1 << 24:
            self._pll_mhz()
            self.start("pll")
        elif address == 0x58024410 and value & 7 == 3:
            self._switch()

    def _switch(self) -> None:
        if self.is_ready("flash"):
            self._wait_states = self.get(0x52002000) & 15
        need(self.is_ready("pll"), "the core by a PLL that is not stable")
        need(self.is_ready("voltage"), "280 MHz at the voltage of 64")
        need(self._wait_states >= 6, "flash that is too slow for the core")
        buses = [self.get(0x58024418) >> 4, self.get(0x5802441C) >> 4, self.get(0x58024420) >> 4]
        buses.append(self.get(0x5802441C) >> 8)
        need(all(bus & 7 == 4 for bus in buses), "a bus that is too fast")
        need(not self.get(0x58024418) & 0xF0F, "a core or its bus that is divided")
        self.start("switch", 2 * LONG)
