"""Polling a sensor, its samples of power or energy, and the energy between two moments.

Times are the board's monotonic clock in ns. What is odd about samples is counted, never smoothed.
"""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from .absent import NotMeasured
from .errors import describe
from .sensors.base import COUNTER, Sensor
from .system import System

Value = TypeVar("Value")

_KEPT = 4000
# An interval this many times the usual one has lost samples.
_GAP_FACTOR = 3


@dataclass
class Series:
    """One channel: milliwatts, or millijoules of a counter, unwrapped from 0 at the first sample.

    A sample that is not later than the one before it is dropped and counted.
    """

    counter: bool
    wraps_at_mj: float | None = None
    """Largest value of a counter, after which comes 0."""
    times_ns: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    duplicates: int = 0
    backward: int = 0
    wraps: int = 0
    resets: int = 0
    """Times that a counter without a known largest value went back; a gap each."""
    reset_ends_ns: list[int] = field(default_factory=list)
    _last_raw: float = 0.0

    def add(self, time_ns: int, value: float) -> None:
        if self.times_ns and time_ns <= self.times_ns[-1]:
            if time_ns == self.times_ns[-1]:
                self.duplicates += 1
            else:
                self.backward += 1
            return
        if self.counter:
            value, self._last_raw = self._unwrapped(time_ns, value), value
        self.times_ns.append(time_ns)
        self.values.append(value)

    def _unwrapped(self, time_ns: int, raw: float) -> float:
        if not self.times_ns:
            return 0.0
        step = raw - self._last_raw
        if step < 0:
            if self.wraps_at_mj is None:
                self.resets += 1
                self.reset_ends_ns.append(time_ns)
                step = 0.0
            else:
                self.wraps += 1
                step += self.wraps_at_mj
        return self.values[-1] + step

    def usual_interval_ns(self) -> float:
        """Median distance of samples; 0 if there are fewer than two."""
        times = self.times_ns
        if len(times) < 2:
            return 0.0
        return float(statistics.median(later - earlier for earlier, later in zip(times, times[1:])))

    def power_mw(self) -> list[tuple[int, float]]:
        """Time and power of each sample; of a counter, the mean since the sample before."""
        if not self.counter:
            return list(zip(self.times_ns, self.values))
        return [
            (time, (value - value_before) / (time - time_before) * 1e9)
            for time_before, time, value_before, value in zip(
                self.times_ns, self.times_ns[1:], self.values, self.values[1:]
            )
        ]


@dataclass(frozen=True)
class Integral:
    """Energy between two moments; ``samples`` are inside of it, as is ``gap_s``."""

    energy_mj: float
    samples: int
    gaps: int
    """Intervals more than three times the usual one; bridged by a straight line."""
    gap_s: float


def integrate(series: Series, start_ns: int, end_ns: int) -> Integral | None:
    """Energy by the trapezoid rule; None where there are no two samples.

    Before the first sample and after the last, power is taken to be what they say, and the time
    counts as a gap if it is one.
    """
    times, usual = series.times_ns, series.usual_interval_ns()
    if len(times) < 2 or end_ns <= start_ns:
        return None
    first = bisect_left(times, start_ns)
    last = bisect_left(times, end_ns)
    energy_mj, gaps, gap_s = 0.0, 0, 0.0
    resets = set(series.reset_ends_ns)
    # Interval i lies between samples i - 1 and i; 0 and len(times) are the open ends.
    for index in range(first, last + 1):
        opens = times[index - 1] if index > 0 else min(start_ns, times[0])
        closes = times[index] if index < len(times) else max(end_ns, times[-1])
        inside_from, inside_to = max(opens, start_ns), min(closes, end_ns)
        if inside_to <= inside_from:
            continue
        energy_mj += _energy_mj(series, index, inside_from, inside_to)
        if closes - opens > _GAP_FACTOR * usual or closes in resets:
            gaps += 1
            gap_s += (inside_to - inside_from) / 1e9
    return Integral(energy_mj, bisect_left(times, end_ns + 1) - first, gaps, gap_s)


def _energy_mj(series: Series, index: int, from_ns: int, to_ns: int) -> float:
    """Energy in a part of interval ``index``."""
    times, values = series.times_ns, series.values
    inner = min(max(index, 1), len(times) - 1)
    span = times[inner] - times[inner - 1]
    change = values[inner] - values[inner - 1]
    seconds = (to_ns - from_ns) / 1e9
    if series.counter:
        return change / span * 1e9 * seconds
    if inner != index:  # outside of all samples
        return (values[0] if index == 0 else values[-1]) * seconds
    middle = (from_ns + to_ns) / 2 - times[index - 1]
    return (values[index - 1] + change * middle / span) * seconds


@dataclass
class Recording:
    """All that a sensor said, by channel, and the sum that is its total."""

    sensor: Sensor
    channels: dict[str, Series] = field(default_factory=dict)
    total: Series = field(init=False)
    failed_reads: int = 0
    last_failure: str = ""
    busy_ns: int = 0
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
        if self.sensor.kind == COUNTER:
            values = {name: self.channels[name].values[-1] for name in names}
        self.total.add(time_ns, sum(values[name] for name in names))
        resets = sum(self.channels[name].resets for name in names)
        # Rails are unwrapped before they are added, so the sum itself never goes back; what is
        # missing in one of them is missing here. A sample that was dropped ends no interval.
        if resets > self._resets_passed_on and len(self.total.times_ns) > samples:
            self.total.reset_ends_ns.append(time_ns)
            self._resets_passed_on = resets

    def rails_mw(self, start_ns: int, end_ns: int) -> dict[str, float]:
        seconds = (end_ns - start_ns) / 1e9
        found = {}
        for name, series in self.channels.items():
            integral = integrate(series, start_ns, end_ns)
            if integral is not None:
                found[name] = integral.energy_mj / seconds
        return found

    def oddities(self) -> dict[str, int]:
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

    ``wait`` sleeps for some seconds, or until what is measured has ended; True if it has. For
    sensors that send late, one more poll comes ``settle_s`` later.
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


def thin(values: Sequence[Value]) -> list[Value]:
    """Some thousands of values, evenly spaced, to be stored."""
    return list(values[:: max(1, -(-len(values) // _KEPT))])
