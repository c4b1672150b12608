"""A board in the emulator Unicorn: its firmware's own code, and a model of the chip around it."""

from __future__ import annotations

import struct
from typing import Any

from unicorn import UC_ARCH_ARM, UC_HOOK_BLOCK, UC_MODE_MCLASS, UC_MODE_THUMB, Uc
from unicorn import arm_const as arm

from headgate.device.elf import flash_image, load_segments
from headgate.device.microcontrollers import Microcontroller
from headgate.device.serial_protocol import Line
from tests.chips.model import DELAY, Chip, Violation

CORES = {
    "cortex-m4": arm.UC_CPU_ARM_CORTEX_M4,
    "cortex-m7": arm.UC_CPU_ARM_CORTEX_M7,
    "cortex-m33": arm.UC_CPU_ARM_CORTEX_M33,
}
PERIPHERALS = [(0x40000000, 0x20000000), (0xD0000000, 0x1000), (0xE0000000, 0x100000)]
IDLE = 5 * DELAY
"""Firmware that has looked at its UART so often waits for a byte."""
HANGS_US = 10_000_000


class Machine:
    """A board after reset with a program in its flash."""

    def __init__(self, program: bytes, board: Microcontroller, chip: Chip) -> None:
        self.chip = chip
        self._violation: Violation | None = None
        address, image = flash_image(load_segments(program), board.flash)
        self._uc = uc = Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS)
        uc.ctl_set_cpu_model(CORES[board.target])
        for memory in (board.flash, board.ram):
            uc.mem_map(memory.address, memory.bytes)
        uc.mem_write(address, image)
        for start, size in PERIPHERALS:
            uc.mmio_map(start, size, self._read, start, self._write, start)
        self._blocks = uc.hook_add(UC_HOOK_BLOCK, self._block)
        stack, self._at = struct.unpack_from("<2I", image)
        uc.reg_write(arm.UC_ARM_REG_SP, stack)

    def _block(self, *_: Any) -> None:
        self.chip.blocks += 1

    # What the emulator calls may raise nothing.
    def _read(self, uc: Uc, offset: int, size: int, start: int) -> int:
        value = 0
        try:
            value = self.chip.read(start + offset)
        except Violation as violation:
            self._violation = violation
        if self._violation or self.chip.idle >= IDLE:
            uc.emu_stop()
        return value

    def _write(self, uc: Uc, offset: int, size: int, value: int, start: int) -> None:
        try:
            self.chip.write(start + offset, value)
        except Violation as violation:
            self._violation = violation
            uc.emu_stop()

    def run(self) -> None:
        """Until firmware waits for a byte; a Violation if it does what the chip forbids."""
        self.chip.idle = 0
        self._uc.emu_start(self._at | 1, 0xFFFFFFFE, timeout=HANGS_US)
        if self._violation:
            raise self._violation
        assert self.chip.idle >= IDLE, "the firmware hangs"
        self._at = self._uc.reg_read(arm.UC_ARM_REG_PC)
        if self._blocks is not None:
            # Only the way to main is timed; each block of it costs a call.
            self._uc.hook_del(self._blocks)
            self._blocks = None


class EmulatedLine(Line):
    """The serial line to a machine, which runs while somebody listens."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def write(self, data: bytes) -> None:
        self._machine.chip.incoming += data

    def read(self, seconds: float) -> bytes:
        self._machine.run()
        sent = bytes(self._machine.chip.sent)
        self._machine.chip.sent.clear()
        return sent

    def close(self) -> None:
        pass
