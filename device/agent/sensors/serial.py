"""A serial or USB meter: lines of CSV from a device file."""

from __future__ import annotations

import os
import termios
import tty
from dataclasses import dataclass

from ..errors import SensorError, describe
from ..system import System
from .base import Channel, Sensor
from .lines import LineSensor

_BAUD = 115200


def open_sensor(system: System, argument: str, column: str | None) -> Sensor:
    """The meter at a port, such as ``/dev/ttyACM0`` or ``/dev/ttyUSB0,9600``."""
    port, _, speed = argument.partition(",")
    if not port:
        raise SensorError("--sensor serial: needs a port after the colon, such as /dev/ttyACM0")
    if speed and (not speed.isdigit() or not hasattr(termios, f"B{speed}")):
        raise SensorError(
            f"--sensor serial:{argument}: {speed!r} is no speed; use 9600, 115200 ..."
        )
    return SerialSensor(
        name=f"serial:{port}",
        channels=[Channel("power", "external", port)],
        system=system,
        column=column,
        port=port,
        baud=int(speed) if speed else _BAUD,
    )


@dataclass
class SerialSensor(LineSensor):
    """An open port; a FIFO will do as well."""

    port: str = ""
    baud: int = _BAUD
    _descriptor: int = -1

    def open(self) -> int:
        try:
            self._descriptor = os.open(self.port, os.O_RDONLY | os.O_NOCTTY)
            if os.isatty(self._descriptor):
                tty.setraw(self._descriptor)
                settings = termios.tcgetattr(self._descriptor)
                settings[4] = settings[5] = getattr(termios, f"B{self.baud}")
                termios.tcsetattr(self._descriptor, termios.TCSANOW, settings)
                self.joins_midway = True
        except FileNotFoundError as error:
            raise SensorError(f"{self.name}: no such port; is the meter plugged in?") from error
        except PermissionError as error:
            raise SensorError(f"{self.name}: no permission; be in group dialout") from error
        except (OSError, termios.error) as error:
            self.close()
            raise SensorError(f"{self.name}: {describe(error)}") from error
        return self._descriptor

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
