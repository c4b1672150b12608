"""Nordic's Power Profiler Kit II as an ampere meter, through the package ppk2-api.

The package is imported when the kit is asked for.

It measures current only: power is current times the voltage that you say the supply has.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass, field
from typing import Any

from ..errors import SensorError
from ..system import System
from .base import SAMPLED, Channel, Sample, Sensor


def open_sensor(system: System, argument: str, column: str | None) -> Sensor:
    """The kit that is plugged in; ``argument`` is the supply's millivolts.

    Raises:
        SensorError: no voltage, or the package is not installed.
    """
    if not argument.isdigit() or not 800 <= int(argument) <= 5000:
        raise SensorError("--sensor ppk2:MILLIVOLTS needs the supply's voltage, 800 to 5000")
    try:
        package = importlib.import_module("ppk2_api.ppk2_api")
    except ImportError as error:
        raise SensorError(
            "--sensor ppk2 needs the package ppk2-api: pip install ppk2-api==0.9.2"
        ) from error
    return PowerProfiler(
        name="ppk2",
        kind=SAMPLED,
        channels=[Channel("power", "external", f"current x {argument} mV")],
        total=["power"],
        scope="what is wired through the PPK2, at the voltage you gave",
        rate_hz=20.0,
        system=system,
        package=package,
        millivolts=int(argument),
    )


@dataclass
class PowerProfiler(Sensor):
    """100,000 samples a second, averaged over the time between two polls."""

    system: System = field(default_factory=System)
    package: Any = None
    millivolts: int = 0
    _device: Any = None
    _last_ns: int = 0

    def start(self) -> None:
        """Open the first kit and start its stream."""
        try:
            ports = self.package.PPK2_API.list_devices()
            if not ports:
                raise SensorError("ppk2: none is plugged in")
            # Pairs of port and serial number; older versions list the ports alone.
            port = ports[0] if isinstance(ports[0], str) else ports[0][0]
            self._device = self.package.PPK2_API(port)
            self._device.get_modifiers()
            self._device.use_ampere_meter()
            self._device.set_source_voltage(self.millivolts)
            self._device.toggle_DUT_power("ON")
            self._device.start_measuring()
        except SensorError:
            raise
        except Exception as error:  # whatever another package's driver raises
            raise SensorError(f"ppk2: {error}; unplug it and try again") from error
        self._last_ns = self.system.monotonic_ns()

    def poll(self, now_ns: int) -> list[Sample]:
        """The mean since the last poll, stamped with the middle of that time."""
        data = self._device.get_data()
        microamperes, _ = self._device.get_samples(data) if data else ([], [])
        if not microamperes:
            return []
        middle_ns, self._last_ns = (self._last_ns + now_ns) // 2, now_ns
        mean_ua = math.fsum(microamperes) / len(microamperes)
        return [Sample(middle_ns, {"power": mean_ua * self.millivolts / 1e6})]

    def stop(self) -> None:
        """Stop the stream; the power stays on."""
        if self._device is not None:
            self._device.stop_measuring()
            self._device = None
