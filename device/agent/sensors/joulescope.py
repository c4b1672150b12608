"""Joulescope JS110 and JS220, through their own Python package.

Statistics bring the sum of energy twenty times a second, a JS110's twice, and its own time.
"""

from __future__ import annotations

import contextlib
import importlib
from dataclasses import dataclass
from typing import Any

from ..errors import SensorError, describe
from ..system import System
from .base import COUNTER, Channel, Sample, Sensor
from .lines import Meter

_FIRST_S = 5.0


def open_sensor(system: System, argument: str, column: str | None) -> Sensor:
    try:
        package = importlib.import_module("joulescope")
    except ImportError as error:
        raise SensorError(
            "--sensor joulescope needs the package joulescope, 1.5 or newer: pip install joulescope"
        ) from error
    return Joulescope(
        name="joulescope",
        kind=COUNTER,
        channels=[Channel("energy", "external", "joulescope")],
        total=["energy"],
        scope="what is wired through the Joulescope",
        rate_hz=2.0,
        system=system,
        package=package,
    )


@dataclass
class Joulescope(Meter):
    """An instrument that is found when it is started."""

    package: Any = None
    first_s: float = _FIRST_S
    _device: Any = None

    def start(self) -> None:
        try:
            self._device = self.package.scan_require_one(config="auto")
            self._device.open()
            # A window's ends fall into an interval of the counter: the shorter, the better.
            self._device.parameter_set("reduction_frequency", "20 Hz")
            self._device.statistics_callback_register(self._on_statistics, "sensor")
        except Exception as error:  # whatever another package's driver raises
            self.stop()
            raise SensorError(
                f"joulescope: {describe(error)}; is exactly one plugged in?"
            ) from error
        if not self._first.wait(self.first_s):
            self.stop()
            raise SensorError(f"joulescope: no statistics within {self.first_s:g} s; replug it")

    def stop(self) -> None:
        """Let go of the instrument; it goes on feeding the board."""
        if self._device is not None:
            # What was measured counts even if it was unplugged since.
            with contextlib.suppress(Exception):
                self._device.close()
            self._device = None

    def _on_statistics(self, statistics: dict[str, Any]) -> None:
        """Called from the package's thread, which is late when the board is busy."""
        joules = statistics["accumulators"]["energy"]["value"]
        seconds = statistics["time"]["range"]["value"][1]
        time_ns = self.clock.to_monotonic(round(seconds * 1e9), self.system.monotonic_ns())
        self._arrived.append(Sample(time_ns, {"energy": joules * 1000}))
        self._first.set()
