"""Power sensors: one kind, one file. A new kind is a file and a row in one of the two tables."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable

from ..absent import NotMeasured
from ..errors import SensorError, UsageError
from ..system import System
from . import command, hwmon, jetson, joulescope, pmic, ppk2, rapl, serial
from .base import Probe, Sensor

# Found by looking. In order of preference: what measures most of the board comes first.
_PROBES: dict[str, Callable[[System, int | None], Probe]] = {
    "jetson": lambda system, shunt_uohm: jetson.probe(system),
    "hwmon": hwmon.probe,
    "pmic": lambda system, shunt_uohm: pmic.probe(system),
    "rapl": lambda system, shunt_uohm: rapl.probe(system),
}
# Used when they are named.
_ON_REQUEST: dict[str, Callable[[System, str, str | None], Sensor]] = {
    "command": command.open_sensor,
    "serial": serial.open_sensor,
    "joulescope": joulescope.open_sensor,
    "ppk2": ppk2.open_sensor,
}
KINDS = (*_PROBES, *_ON_REQUEST)
AUTO = "auto"


def kind_of(wanted: str) -> str:
    """The kind that ``--sensor`` names, or ``auto``; whether there is one is not asked."""
    kind = re.split("[:/]", wanted)[0]
    if kind == AUTO != wanted:
        raise UsageError(f"sensor {wanted!r}: name one for its rails, such as jetson/RAIL+RAIL")
    if kind not in (AUTO, *KINDS):
        close = difflib.get_close_matches(kind, (AUTO, *KINDS), n=1, cutoff=0.75)
        known = f"did you mean {close[0]!r}?" if close else f"there are {AUTO}, {', '.join(KINDS)}"
        raise UsageError(f"sensor {wanted!r}: no such kind; {known}")
    return kind


def probe_all(system: System, shunt_uohm: int | None = None) -> dict[str, Probe]:
    """Kind -> what is there, or why there is nothing; kinds that must be named are not asked."""
    return {kind: probe(system, shunt_uohm) for kind, probe in _PROBES.items()}


def choose(
    system: System, wanted: str = AUTO, shunt_uohm: int | None = None, column: str | None = None
) -> Sensor:
    """The sensor to measure energy with.

    ``wanted`` is ``auto``; a kind; ``hwmon:CHIP`` for one of several; any of these with
    ``/RAIL+RAIL`` to say which rails make up the whole; ``pmic:estimate``; ``command:COMMAND
    LINE``; ``serial:PORT[,SPEED]``; ``joulescope``; ``ppk2:MILLIVOLTS``. ``shunt_uohm`` is the
    resistor of an INA monitor, ``column`` that of a meter's CSV that has power.
    """
    kind = kind_of(wanted)
    if kind in _ON_REQUEST:
        return _ON_REQUEST[kind](system, wanted.partition(":")[2], column)
    if kind == AUTO:
        return _automatic(system, shunt_uohm)
    chip, _, rails = wanted.partition("/")
    if chip == "pmic:estimate":
        probe = pmic.probe(system, estimate=True)
    elif kind == "hwmon" and chip != kind:
        # --shunt-uohm applies to the named monitor only.
        probe = hwmon.probe(system, shunt_uohm, chip)
    else:
        probe = _PROBES[kind](system, shunt_uohm)
    found = [sensor for sensor in probe.sensors if chip in (kind, sensor.name, "pmic:estimate")]
    if found and chip == kind:
        _check_all_answer(probe)
    if not found:
        names = ", ".join(sensor.name for sensor in probe.sensors)
        raise SensorError(f"no sensor {chip}: {f'there is {names}' if names else probe.absent}")
    if len(found) > 1:
        names = ", ".join(sensor.name for sensor in found)
        raise SensorError(f"--sensor {wanted}: there are several, name one: {names}")
    sensor = _with_rails(found[0], rails.split("+")) if rails else found[0]
    if isinstance(sensor.total, NotMeasured):
        raise SensorError(sensor.total.reason)
    return sensor


def _automatic(system: System, shunt_uohm: int | None) -> Sensor:
    """The first kind that has exactly one sensor with a total."""
    reasons: list[str] = []
    failed: list[str] = []
    for kind, probe in probe_all(system, shunt_uohm).items():
        usable = [sensor for sensor in probe.sensors if not isinstance(sensor.total, NotMeasured)]
        if usable:
            _check_all_answer(probe)
        if len(usable) == 1:
            usable[0].warnings += [f"used because another does not answer: {one}" for one in failed]
            return usable[0]
        if usable:
            names = ", ".join(sensor.name for sensor in usable)
            raise SensorError(f"several sensors, name one with --sensor: {names}")
        without_total = [
            sensor.total.reason for sensor in probe.sensors if isinstance(sensor.total, NotMeasured)
        ]
        failed += probe.failed
        reasons.append(f"{kind}: {'; '.join(without_total) or probe.absent}")
    raise SensorError("no power sensor to use. " + "; ".join(reasons))


def _check_all_answer(probe: Probe) -> None:
    """One that answers is not the one that is meant because another one does not."""
    if probe.failed:
        names = ", ".join(sensor.name for sensor in probe.sensors)
        raise SensorError(f"{'; '.join(probe.failed)}; to use another, name it: --sensor {names}")


def _with_rails(sensor: Sensor, rails: list[str]) -> Sensor:
    names = [channel.name for channel in sensor.channels]
    for rail in rails:
        if rail not in names:
            raise SensorError(f"{sensor.name} has no rail {rail!r}, but {', '.join(names)}")
    if len(set(rails)) < len(rails):
        raise SensorError(f"{sensor.name}: {'+'.join(rails)} counts a rail twice")
    return dataclasses.replace(sensor, total=rails, scope=f"{' + '.join(rails)}, as you chose")
