"""TI's INA power monitors, and energy counters, under ``/sys/class/hwmon``.

ina2xx and ina238 have ``power1_input`` in microwatts. ina3221 has bus millivolts and milliamperes
for three channels, whose shunts are ``in4`` to ``in6``. ``energy*_input`` is microjoules.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..absent import NotMeasured
from ..errors import SensorError
from ..system import System
from .base import COUNTER, SAMPLED, Probe
from .jetson import is_jetson
from .rails import (
    Rail,
    connected,
    label_of,
    microwatts,
    polling_rate_hz,
    rail_sensor,
    readable,
    volts_and_amperes,
)

_CHIPS = frozenset(
    ("ina219", "ina220", "ina226", "ina228", "ina230", "ina231", "ina237", "ina238", "ina260")
)
_THREE_CHANNELS = "ina3221"
# What the drivers assume unless the device tree or somebody tells them otherwise. Most modules
# that people wire up carry 100000 (R100).
_DRIVERS_SHUNT_UOHM = 10000
_INTERNAL_SHUNT = frozenset(("ina260",))


@dataclass(frozen=True)
class _Device:
    folder: str
    chip: str
    place: str
    """Where it hangs: ``1-0040``, or the hwmon's name."""

    @property
    def title(self) -> str:
        return f"{self.chip}@{self.place}"

    @property
    def sensor_name(self) -> str:
        return f"hwmon:{self.title}"


def probe(system: System, shunt_uohm: int | None = None, only: str | None = None) -> Probe:
    """All monitors, one sensor for each chip.

    A chip whose driver believes in another resistor than ``shunt_uohm`` is refused, because all its
    currents are wrong; that is said of the monitor ``only``, of all if None.
    """
    result = Probe(absent="no INA power monitor or energy counter in /sys/class/hwmon")
    on_jetson = is_jetson(system)
    for name_file in system.glob("sys/class/hwmon/hwmon*/name"):
        folder, chip = name_file.rpartition("/")[0], system.text(name_file)
        if isinstance(chip, NotMeasured) or (on_jetson and chip == _THREE_CHANNELS):
            continue
        device = _Device(folder, chip, _place(system, folder))
        is_monitor = chip in _CHIPS or chip == _THREE_CHANNELS
        rails = _channels(system, device) if is_monitor else _counters(system, device)
        if not (rails or is_monitor):
            continue
        rails, warnings = readable(rails, system)
        if not rails:
            reason = "; ".join(warnings) or "all its channels are NC or have no files"
            result.absent = f"{device.title}: {reason}"
            result.failed.append(result.absent)
            continue
        total = _total(device, [rail.channel.name for rail in rails], warnings)
        if is_monitor:
            wanted_uohm = shunt_uohm if only in (None, device.sensor_name) else None
            for rail in rails:
                warnings = warnings + _shunt_warnings(system, device, rail, wanted_uohm)
        result.sensors.append(
            rail_sensor(
                system,
                device.sensor_name,
                rails,
                total,
                f"what {'its shunt' if is_monitor else 'the counter'} is wired to",
                warnings,
                SAMPLED if is_monitor else COUNTER,
                polling_rate_hz([system.number(f"{folder}/update_interval")] if is_monitor else []),
            )
        )
    return result


def _place(system: System, folder: str) -> str:
    parts = system.real_name(folder).split("/")
    addresses = [part for part in parts if re.fullmatch(r"\d+-[0-9a-f]{4}", part)]
    return addresses[-1] if addresses else folder.rpartition("/")[2]


def _total(device: _Device, names: list[str], left_out: list[str]) -> list[str] | NotMeasured:
    """The one rail of a monitor; of several, answering or not, only the user knows."""
    if len(names) == 1 and not left_out:
        return names
    measures = "; ".join([", ".join(names), *left_out])
    return NotMeasured(
        f"{device.title} measures {measures}, and which of them make up the board is "
        f"known to you only; name them: --sensor {device.sensor_name}/{'+'.join(names[:2])}"
    )


def _channels(system: System, device: _Device) -> list[Rail]:
    folder = device.folder
    if device.chip != _THREE_CHANNELS:
        name = label_of(system, f"{folder}/label", device.chip)
        if system.exists(f"{folder}/power1_input"):
            return [microwatts(f"{folder}/power1_input", name)]
        return [volts_and_amperes(folder, 1, name)]
    rails = []
    for number in (1, 2, 3):
        name = label_of(system, f"{folder}/in{number}_label", f"channel{number}")
        if connected(name) and system.exists(f"{folder}/in{number}_input"):
            rails.append(volts_and_amperes(folder, number, name))
    return rails


def _shunt_warnings(
    system: System, device: _Device, rail: Rail, wanted_uohm: int | None
) -> list[str]:
    """Is the resistor what the driver believes, and has the chip kept its calibration?"""
    if device.chip in _INTERNAL_SHUNT:
        return []
    number, shunt_file, per_uv = "1", f"{device.folder}/shunt_resistor", 1000
    shunt_voltage = f"{device.folder}/in0_input"
    if device.chip == _THREE_CHANNELS:
        number = re.sub(r".*/in(\d)_input", r"\1", rail.millivolt_file)
        shunt_file, per_uv = f"{device.folder}/shunt{number}_resistor", 1
        shunt_voltage = f"{device.folder}/in{int(number) + 3}_input"
    uohm = system.number(shunt_file)
    if isinstance(uohm, NotMeasured):
        unknown = f"{device.title}: the shunt is unknown: no {shunt_file}"
        return [] if wanted_uohm is None else [unknown]
    if wanted_uohm is not None and uohm != wanted_uohm:
        raise SensorError(
            f"{device.title}: its driver believes in a shunt of {uohm} uOhm, you said "
            f"{wanted_uohm}; currents are wrong by a factor of {wanted_uohm / max(uohm, 1):g}; "
            f"set it: echo {wanted_uohm} | sudo tee /{shunt_file}"
        )
    warnings = []
    if wanted_uohm is None and uohm == _DRIVERS_SHUNT_UOHM:
        warnings.append(
            f"{device.title}: the shunt is the driver's default of {uohm} uOhm; if the resistor "
            "says R100 it is 100000: confirm with --shunt-uohm"
        )
    drop = system.number(shunt_voltage)
    milliamperes = system.number(f"{device.folder}/curr{number}_input")
    if isinstance(drop, int) and isinstance(milliamperes, int) and uohm > 0:
        microvolts = abs(drop * per_uv)
        expected_ma = microvolts * 1000 / uohm
        # Half a unit of the coarser file, and what changed between the two readings.
        slack_ma = per_uv * 1000 / uohm + 0.5 * expected_ma + 1
        if abs(expected_ma - abs(milliamperes)) > slack_ma:
            warnings.append(
                f"{device.title}: curr{number}_input says {milliamperes} mA, the voltage across "
                f"its shunt {expected_ma:.0f} mA: the chip lost its calibration; write "
                f"{uohm} to /{shunt_file} again"
            )
    return warnings


def _counters(system: System, device: _Device) -> list[Rail]:
    rails = []
    for path in system.glob(f"{device.folder}/energy*_input"):
        stem = path.rpartition("/")[2].replace("_input", "")
        name = label_of(system, path.replace("_input", "_label"), stem)
        rails.append(microwatts(path, name))
    return rails
