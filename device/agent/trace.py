"""Samples of power or energy, and the energy between two moments.

Power is integrated by the trapezoid rule. Counters of energy are differenced, with wraps undone.
Times are nanoseconds of the board's monotonic clock. Whatever is odd about the samples is
counted, never smoothed over: see :class:`Integral`.
"""

from __future__ import annotations

import statistics
from bisect import bisect_left
from dataclasses import dataclass, field

# An interval this many times the usual one has lost samples.
_GAP_FACTOR = 3


@dataclass
class Series:
    """One channel: milliwatts, or millijoules of a counter.

    A sample that is not later than the one before it says nothing new about power, so it is
    dropped and counted.
    """

    counter: bool
    wraps_at_mj: float | None = None
    """Largest value of a counter; after it comes 0."""
    times_ns: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    """Of a counter: unwrapped, from 0 at the first sample."""
    duplicates: int = 0
    """Samples with the same time as the one before."""
    backward: int = 0
    """Samples with an earlier time than the one before."""
    wraps: int = 0
    resets: int = 0
    """Times that a counter went back without a known largest value; that interval is a gap."""
    reset_ends_ns: list[int] = field(default_factory=list)
    _last_raw: float = 0.0

    def add(self, time_ns: int, value: float) -> None:
        """Append a sample."""
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
        if len(self.times_ns) < 2:
            return 0.0
        return float(
            statistics.median(
                later - earlier for earlier, later in zip(self.times_ns, self.times_ns[1:])
            )
        )

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
    """Energy between two moments and what it rests on."""

    energy_mj: float
    samples: int
    """Inside the window."""
    gaps: int
    """Intervals more than three times the usual one; bridged by a straight line."""
    gap_s: float
    """Their time inside the window."""


def integrate(series: Series, start_ns: int, end_ns: int) -> Integral | None:
    """Energy from ``start_ns`` to ``end_ns``; None without a sample on either side or inside.

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
