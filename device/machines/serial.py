"""Microcontrollers on a serial port: ``serial:/dev/ttyACM0``, or with a speed ``...,921600``."""

from __future__ import annotations

import os
import select
import termios
import time
import tty
from collections.abc import Sequence
from pathlib import Path

from headgate.device.agent.report import Report
from headgate.device.agent.settings import Settings
from headgate.device.bundle import Bundle
from headgate.device.machines.base import Machine
from headgate.device.machines.firmware_network import FirmwareNetwork, samples_of
from headgate.device.machines.firmware_report import measure_firmware
from headgate.device.machines.serial_program import SerialProgram
from headgate.device.manifest import library_of
from headgate.device.serial_protocol import Line
from headgate.errors import BundleError, DeviceError, UsageError, why

BAUD = 115200
"""What the firmware's UART is set to."""
_PREFIX = "serial:"
_WRITE_S = 10.0
"""A port that takes nothing for so long is stuck."""


class SerialMachine(Machine):
    """A board on a port, which runs the firmware of the bundle."""

    @classmethod
    def names(cls) -> list[str]:
        return []

    @classmethod
    def named(cls, name: str) -> SerialMachine | None:
        return cls(name) if name.startswith(_PREFIX) else None

    def __init__(self, name: str) -> None:
        """A UsageError if ``name`` has no port, or a speed that is none."""
        self.name = name
        self.port, _, speed = name.removeprefix(_PREFIX).partition(",")
        if not self.port:
            raise UsageError(f"{name}: a port is missing, such as {_PREFIX}/dev/ttyACM0")
        if speed and (not speed.isdigit() or not hasattr(termios, f"B{speed}")):
            raise UsageError(f"{name}: {speed!r} is no speed; use 115200, 921600 ...")
        self.baud = int(speed) if speed else BAUD

    def check(self, bundle: Bundle) -> None:
        if library_of(bundle.members) is None:
            raise BundleError(
                f"{bundle.name!r} is compiled for target {bundle.target['name']}, {self.name} is "
                "a microcontroller; recompile with --target cortex-m4 or another of them"
            )

    def check_threads(self, threads: int) -> None:
        if threads > 1:
            raise UsageError(f"{self.name} has one core; leave out --threads")

    def load(self, bundle: Bundle, threads: int) -> SerialProgram:
        self.check_threads(threads)
        return SerialProgram(bundle, self.name, lambda: PortLine(self.port, self.baud))

    def measure(
        self, bundle: str | Path, settings: Settings, inputs: Sequence[Path] = ()
    ) -> Report:
        """Cycles and times, by the board's own clock."""
        opened = Bundle.open(bundle)
        self.check(opened)
        with self.load(opened, settings.threads) as program:
            network = FirmwareNetwork(program, samples_of(opened, bundle, inputs), [])
            return measure_firmware(network, program, settings)


class PortLine(Line):
    """An open serial port; a pseudo-terminal will do as well."""

    def __init__(self, port: str, baud: int) -> None:
        """A DeviceError if the port cannot be opened."""
        self._port, self._descriptor = port, -1
        try:
            self._descriptor = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            tty.setraw(self._descriptor)
            settings = termios.tcgetattr(self._descriptor)
            settings[4] = settings[5] = getattr(termios, f"B{baud}")
            termios.tcsetattr(self._descriptor, termios.TCSANOW, settings)
            termios.tcflush(self._descriptor, termios.TCIOFLUSH)
        except FileNotFoundError as error:
            raise DeviceError(f"no port {port}; is the board plugged in?") from error
        except PermissionError as error:
            raise DeviceError(f"no permission for {port}; be in group dialout") from error
        except (OSError, termios.error) as error:
            self.close()
            raise DeviceError(f"cannot open {port}: {why(error)}") from error

    def write(self, data: bytes) -> None:
        deadline = time.monotonic() + _WRITE_S
        while data:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([], [self._descriptor], [], left)[1]:
                raise DeviceError(f"{self._port} takes no data; reset the board")
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._gone(error) from error

    def read(self, seconds: float) -> bytes:
        try:
            if not select.select([self._descriptor], [], [], seconds)[0]:
                return b""
            data = os.read(self._descriptor, 1 << 16)
        except OSError as error:
            raise self._gone(error) from error
        if not data:
            raise DeviceError(f"{self._port} was closed; is the board still plugged in?")
        return data

    def _gone(self, error: OSError) -> DeviceError:
        return DeviceError(f"{self._port} failed ({why(error)}); is the board still plugged in?")

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
