"""Polling a sensor while something else happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .absent import NotMeasured
from .errors import describe
from .sensors.base import COUNTER, Sensor
from .system import System
from .trace import Integral, Series, integrate


@dataclass
class Recording:
    """All that a sensor said, by channel, and the sum that is its total."""

    sensor: Sensor
    channels: dict[str, Series] = field(default_factory=dict)
    total: Series = field(init=False)
    failed_reads: int = 0
    last_failure: str = ""
    busy_ns: int = 0
    """Time that reading took."""
    _resets_passed_on: int = 0

    def __post_init__(self) -> None:
        counter = self.sensor.kind == COUNTER
        self.channels = {
            channel.name: Series(counter, channel.wraps_at_mj) for channel in self.sensor.channels
        }
        # Channels of a counter are unwrapped before they are added.
        self.total = Series(counter)

    def poll(self, now_ns: int) -> None:
        """Take what the sensor has; a reading that fails is counted."""
        try:
            samples = self.sensor.poll(now_ns)
        except (OSError, ValueError) as error:
            self.failed_reads += 1
            self.last_failure = describe(error)
            return
        wanted = self.sensor.total
        names = [] if isinstance(wanted, NotMeasured) else wanted
        for sample in samples:
            for name, series in self.channels.items():
                if name in sample.values:
                    series.add(sample.time_ns, sample.values[name])
            if any(name not in sample.values for name in names):
                # A sum without one of its rails would be a lie.
                self.failed_reads += 1
                self.last_failure = f"no reading of {', '.join(set(names) - set(sample.values))}"
                continue
            self._add_total(sample.time_ns, names, sample.values)

    def _add_total(self, time_ns: int, names: list[str], values: dict[str, float]) -> None:
        samples = len(self.total.times_ns)
        self.total.add(time_ns, self._sum(names, values))
        resets = sum(self.channels[name].resets for name in names)
        # Rails are unwrapped before they are added, so the sum itself never goes back; what is
        # missing in one of them is missing here. A sample that was dropped ends no interval.
        if resets > self._resets_passed_on and len(self.total.times_ns) > samples:
            self.total.reset_ends_ns.append(time_ns)
            self._resets_passed_on = resets

    def _sum(self, names: list[str], values: dict[str, float]) -> float:
        if self.sensor.kind != COUNTER:
            return sum(values[name] for name in names)
        return sum(self.channels[name].values[-1] for name in names)

    def integrate(self, start_ns: int, end_ns: int) -> Integral | None:
        """Energy of the total between two moments."""
        return integrate(self.total, start_ns, end_ns)

    def rails_mw(self, start_ns: int, end_ns: int) -> dict[str, float]:
        """Mean power of every channel between two moments."""
        seconds = (end_ns - start_ns) / 1e9
        found = {}
        for name, series in self.channels.items():
            integral = integrate(series, start_ns, end_ns)
            if integral is not None:
                found[name] = integral.energy_mj / seconds
        return found

    def oddities(self) -> dict[str, int]:
        """What was odd about the samples, all of them counts."""
        odd = {
            "failed_reads": self.failed_reads,
            "duplicates": self.total.duplicates,
            "backward_times": self.total.backward,
            "wraps": sum(series.wraps for series in self.channels.values()),
            "resets": sum(series.resets for series in self.channels.values()),
        }
        odd.update(self.sensor.oddities())
        return odd


def record(
    recording: Recording, system: System, wait: Callable[[float], bool], *, settle_s: float = 0.0
) -> None:
    """Poll at the sensor's rate until ``wait`` says that it is over, and once more after that.

    Args:
        recording: gets the samples.
        system: its clock.
        wait: sleeps for some seconds, or until what is measured has ended; True if it has.
        settle_s: how long to go on afterwards, for sensors that send late.
    """
    period_ns = round(1e9 / recording.sensor.rate_hz)
    next_ns = system.monotonic_ns()
    over = False
    while not over:
        started_ns = system.monotonic_ns()
        recording.poll(started_ns)
        now_ns = system.monotonic_ns()
        recording.busy_ns += now_ns - started_ns
        # Readings that took too long are skipped, not made up for.
        next_ns = max(next_ns + period_ns, now_ns)
        over = wait(max(0.0, (next_ns - now_ns) / 1e9))
    recording.poll(system.monotonic_ns())
    if settle_s:
        system.sleep(settle_s)
        recording.poll(system.monotonic_ns())
