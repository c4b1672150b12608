"""Joulescope JS110 and JS220, through their own Python package, which is asked for when used.

The instrument adds up energy by itself; its statistics bring the sum about twice a second.
"""

from __future__ import annotations

import importlib
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from ..errors import SensorError
from ..system import System
from .base import COUNTER, Channel, Sample, Sensor


def open_sensor(system: System, argument: str, column: str | None) -> Sensor:
    """The one Joulescope that is plugged in.

    Raises:
        SensorError: its package is not installed.
    """
    try:
        package = importlib.import_module("joulescope")
    except ImportError as error:
        raise SensorError(
            "--sensor joulescope needs the package joulescope: pip install joulescope==1.7.2"
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
class Joulescope(Sensor):
    """An instrument that is found when it is started."""

    system: System = field(default_factory=System)
    package: Any = None
    _device: Any = None
    _arrived: deque[Sample] = field(default_factory=deque)

    def start(self) -> None:
        """Open the instrument and let its statistics come."""
        try:
            self._device = self.package.scan_require_one(config="auto")
            self._device.open()
            self._device.statistics_callback_register(self._on_statistics, "sensor")
        except Exception as error:  # whatever another package's driver raises
            raise SensorError(f"joulescope: {error}; is exactly one plugged in?") from error

    def poll(self, now_ns: int) -> list[Sample]:
        """What arrived since the last time."""
        return [self._arrived.popleft() for _ in range(len(self._arrived))]

    def stop(self) -> None:
        """Let go of the instrument."""
        if self._device is not None:
            self._device.close()
            self._device = None

    def _on_statistics(self, statistics: dict[str, Any]) -> None:
        joules = statistics["accumulators"]["energy"]["value"]
        self._arrived.append(Sample(self.system.monotonic_ns(), {"energy": joules * 1000}))
