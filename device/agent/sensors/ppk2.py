"""Nordic's Power Profiler Kit II as an ampere meter, through the package ppk2-api.

Power is current times the voltage that you say the supply has. It sends 100,000 samples a second;
as decoding them all would take more than a small board has, a few bursts of each tenth of a second
are decoded.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import sys
from dataclasses import dataclass
from typing import Any

from ..errors import SensorError, describe
from ..system import System
from .base import Channel, Sample, Sensor
from .lines import Meter

_SAMPLE_BYTES = 4
_SAMPLE_NS = 10_000
_BURSTS = 4
_BURST_SAMPLES = 250
_SILENCE_NS = 1_000_000_000


def open_sensor(system: System, argument: str, column: str | None) -> Sensor:
    """The kit that is plugged in; ``argument`` is the supply's millivolts."""
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
        channels=[Channel("power", "external", f"current x {argument} mV")],
        scope="what is wired through the PPK2, at the voltage you gave",
        system=system,
        package=package,
        millivolts=int(argument),
    )


@dataclass
class PowerProfiler(Meter):
    """The mean over the time between two polls; the kit's count of samples is its clock."""

    package: Any = None
    millivolts: int = 0
    _device: Any = None
    _rest: bytes = b""
    _received: int = 0
    _last_ns: int = 0

    def start(self) -> None:
        try:
            ports = self.package.PPK2_API.list_devices()
            if not ports:
                raise SensorError("ppk2: none is plugged in")
            # Pairs of port and serial number; older versions list the ports alone.
            port = ports[0] if isinstance(ports[0], str) else ports[0][0]
            self._device = self.package.PPK2_MP(port)
            # A run that was killed left it sending, which get_modifiers() cannot read.
            self._device.stop_measuring()
            self.system.sleep(0.1)
            self.package.PPK2_API.get_data(self._device)
            if not self._device.get_modifiers():
                # The package would go on with a calibration that is nobody's.
                raise ValueError("it did not send its calibration")
            self._device.use_ampere_meter()
            self._device.set_source_voltage(self.millivolts)
            self._device.toggle_DUT_power("ON")
            self._device.start_measuring()
        except SensorError:
            raise
        except Exception as error:  # whatever another package's driver raises
            self.stop()
            raise SensorError(f"ppk2: {describe(error)}; unplug it and try again") from error
        self._last_ns = self.system.monotonic_ns()

    def poll(self, now_ns: int) -> list[Sample]:
        """The mean since the last poll, stamped with the middle of that time."""
        data = self._rest + self._device.get_data()
        whole = len(data) - len(data) % _SAMPLE_BYTES
        self._rest = data[whole:]
        if not whole:
            if now_ns - self._last_ns > _SILENCE_NS:
                raise OSError("the PPK2 sends no more; is it still plugged in?")
            return []
        self._last_ns = now_ns
        count = whole // _SAMPLE_BYTES
        self._received += count
        end_ns = self.clock.to_monotonic(self._received * _SAMPLE_NS, now_ns)
        microamperes = self._decode(data[:whole])
        if not microamperes:
            raise ValueError("the PPK2 sent nothing that is in its range")
        mean_ua = math.fsum(microamperes) / len(microamperes)
        power_mw = mean_ua * self.millivolts / 1e6
        return [Sample(end_ns - count * _SAMPLE_NS // 2, {"power": power_mw})]

    def stop(self) -> None:
        """Stop the stream; the power stays on."""
        if self._device is not None:
            # What was measured counts even if the kit was unplugged since.
            with contextlib.suppress(Exception):
                self._device.stop_measuring()
            self._device = None

    def _decode(self, data: bytes) -> list[float]:
        """Microamperes of evenly spaced bursts, or of everything where there is little."""
        count = len(data) // _SAMPLE_BYTES
        bursts = [(0, count)]
        if count > _BURSTS * _BURST_SAMPLES:
            firsts = [index * count // _BURSTS for index in range(_BURSTS)]
            bursts = [(first, first + _BURST_SAMPLES) for first in firsts]
        found: list[float] = []
        # The package prints its complaints, and stdout may be where the report goes.
        with contextlib.redirect_stdout(sys.stderr):
            for first, end in bursts:
                part = data[first * _SAMPLE_BYTES : end * _SAMPLE_BYTES]
                samples, _ = self._device.get_samples(part)
                found += samples
        return found
