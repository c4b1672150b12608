"""What every sensor is: named channels that are polled, and which of them add up to the whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import NamedTuple

from ..absent import NotMeasured
from ..system import System

SAMPLED = "sampled"
COUNTER = "counter"


@dataclass(frozen=True)
class Channel:
    """One thing that a sensor measures; ``wraps_at_mj`` is the largest value of a counter."""

    name: str
    scope: str
    """``board``, ``module``, ``rail``, ``cpu``, ``memory`` or ``external``."""
    source: str
    wraps_at_mj: float | None = None


class Sample(NamedTuple):
    """Values by channel: milliwatts of a sampled sensor, millijoules of a counter."""

    time_ns: int
    values: dict[str, float]


@dataclass
class Sensor(ABC):
    """Something that measures power. Between :meth:`start` and :meth:`stop` it is polled."""

    name: str
    kind: str
    """``sampled`` (power, to be integrated) or ``counter`` (energy, to be differenced)."""
    channels: list[Channel]
    total: list[str] | NotMeasured
    """The channels whose sum is what it measures as a whole, which ``scope`` has in words."""
    scope: str
    rate_hz: float
    warnings: list[str] = field(default_factory=list)
    system: System = field(default_factory=System)

    def start(self) -> None:  # noqa: B027 (most sensors need nothing)
        """Get ready; called once, before the first poll."""

    @abstractmethod
    def poll(self, now_ns: int) -> list[Sample]:
        """What there is since the last poll; ``now_ns`` is the time for a sensor without a clock.

        An OSError or ValueError: this reading failed; the next one may succeed.
        """

    def stop(self) -> None:  # noqa: B027
        """Give back what :meth:`start` took."""

    def oddities(self) -> dict[str, int]:
        """Counts of what only this kind of sensor knows to be odd."""
        return {}


@dataclass
class Probe:
    """What looking for a kind of sensor brought; ``absent`` says why there is none."""

    sensors: list[Sensor] = field(default_factory=list)
    absent: str = ""
    failed: list[str] = field(default_factory=list)
    """Sensors that are there and do not answer, and why."""
