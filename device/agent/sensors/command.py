"""A program of the user's that prints one line of CSV for each sample, started without a shell."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass, field

from ..errors import SensorError, describe
from ..system import System
from .base import Channel, Sensor
from .lines import LineSensor

_ENDING_S = 1.0


def open_sensor(system: System, argument: str, column: str | None) -> Sensor:
    try:
        words = shlex.split(argument)
    except ValueError as error:
        raise SensorError(
            f"--sensor command:{argument}: {describe(error)}; close the quotes"
        ) from error
    if not words:
        raise SensorError("--sensor command: needs a command line after the colon")
    return CommandSensor(
        name=f"command:{words[0]}",
        channels=[Channel("power", "external", argument)],
        system=system,
        column=column,
        words=words,
    )


@dataclass
class CommandSensor(LineSensor):
    """A running program and its output."""

    words: list[str] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None

    def open(self) -> int:
        program = self.system.find_program(self.words[0])
        if program is None:
            raise SensorError(f"{self.name}: {self.words[0]} is not installed")
        try:
            self._process = subprocess.Popen(
                [program, *self.words[1:]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
            )
        except OSError as error:
            raise SensorError(f"{self.name}: cannot start it: {describe(error)}") from error
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def ending(self) -> str:
        assert self._process is not None
        try:
            return f"it ended with status {self._process.wait(_ENDING_S)}"
        except subprocess.TimeoutExpired:
            return "it closed its output, but runs on"

    def interrupt(self) -> None:
        if self._process is not None:
            self._process.terminate()

    def close(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
        with self._process:  # closes its output and waits for it
            self._process = None
