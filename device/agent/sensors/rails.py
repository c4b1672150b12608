"""Rails as the kernel's drivers show them in sysfs: files with power, or with volts and amperes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..absent import NotMeasured
from ..errors import describe
from ..system import System
from .base import SAMPLED, Channel, Sample, Sensor

_USUAL_HZ, _FASTEST_HZ = 10.0, 20.0
_TRIES = 3


@dataclass(frozen=True)
class Rail:
    """One channel's files: either ``power_file`` or the other two."""

    channel: Channel
    power_file: str = ""
    divisor: int = 1
    """What makes milliwatts (of a counter: millijoules) of the number in ``power_file``."""
    millivolt_file: str = ""
    milliampere_file: str = ""

    def read(self, system: System) -> float:
        """Milliwatts, or millijoules of a counter; may raise OSError or ValueError."""
        if self.power_file:
            return int(system.read(self.power_file)) / self.divisor
        # Right after each other, so that both are of the same moment.
        millivolts = int(system.read(self.millivolt_file))
        milliamperes = int(system.read(self.milliampere_file))
        return millivolts * milliamperes / 1000


@dataclass
class RailSensor(Sensor):
    """Rails that are read one after the other; one that cannot be is left out of that sample."""

    rails: list[Rail] = field(default_factory=list)

    def poll(self, now_ns: int) -> list[Sample]:
        """One sample, stamped with the middle of the reading."""
        values: dict[str, float] = {}
        failure: Exception | None = None
        started = self.system.monotonic_ns()
        for rail in self.rails:
            try:
                values[rail.channel.name] = rail.read(self.system)
            except (OSError, ValueError) as error:
                failure = error
        if failure is not None and not values:
            raise failure
        return [Sample((started + self.system.monotonic_ns()) // 2, values)]


def rail_sensor(
    system: System,
    name: str,
    rails: list[Rail],
    total: list[str] | NotMeasured,
    scope: str,
    warnings: list[str],
    kind: str = SAMPLED,
    rate_hz: float = _USUAL_HZ,
) -> RailSensor:
    channels = [rail.channel for rail in rails]
    return RailSensor(name, kind, channels, total, scope, rate_hz, warnings, system, rails)


def volts_and_amperes(folder: str, number: int, name: str) -> Rail:
    """A channel of a driver that has no power file: ``in1_input`` x ``curr1_input``."""
    return Rail(
        Channel(name, "rail", f"/{folder}/in{number}_input x curr{number}_input"),
        millivolt_file=f"{folder}/in{number}_input",
        milliampere_file=f"{folder}/curr{number}_input",
    )


def microwatts(path: str, name: str) -> Rail:
    """A channel whose file has microwatts, or microjoules."""
    return Rail(Channel(name, "rail", f"/{path}"), power_file=path, divisor=1000)


def label_of(system: System, path: str, otherwise: str) -> str:
    """What a file calls a channel; ``otherwise`` where it is absent or empty."""
    label = system.text(path)
    return label if isinstance(label, str) and label else otherwise


def connected(label: str) -> bool:
    """False for the label NC, "no connection"."""
    return re.search(r"(?<![A-Za-z])NC(?![A-Za-z])", label) is None


def readable(rails: list[Rail], system: System) -> tuple[list[Rail], list[str]]:
    """The rails that answer, and a line about each of the others."""
    answering, complaints = [], []
    for rail in rails:
        problem = _problem(rail, system)
        if problem is None:
            answering.append(rail)
        else:
            complaints.append(f"{rail.channel.name} left out: {rail.channel.source}: {problem}")
    return answering, complaints


def _problem(rail: Rail, system: System) -> str | None:
    """Why a rail does not answer; once is a bus that was busy."""
    problem = None
    for _ in range(_TRIES):
        try:
            rail.read(system)
            return None
        except (OSError, ValueError) as error:
            problem = describe(error)
    return problem


def polling_rate_hz(intervals_ms: Iterable[int | NotMeasured]) -> float:
    """Faster than the chips average would only read the same value again.

    20 Hz at most: a reading takes a millisecond or so on the bus, and a CPU that waits for it.
    """
    known = [one for one in intervals_ms if isinstance(one, int) and one > 0]
    return min(_FASTEST_HZ, 1000.0 / max(known)) if known else _USUAL_HZ
