"""A meter's log: energy over its own time, and the edges of the pin that it was wired to."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from headgate.errors import InputError

_LEAST_SHARE = 0.5
"""A pin that is low for less than this of a window was not low for a window."""


@dataclass(frozen=True)
class Asked:
    """What a user has to say where a log does not."""

    volts: float | None = None
    """The supply's, of a meter of current alone."""
    rate_hz: float | None = None
    column: str | None = None
    """With power, or with volts and amperes: as the agent's ``--column``."""
    pin: str | None = None
    """The column of the pin's level."""


@dataclass(frozen=True)
class MeterLog:
    """Energy in mJ up to each of some moments, which ascend, and what the meter saw of the pin.

    A meter logs the moments at which it falls, or its level: then ``lows_s`` are the times in which
    it was low.
    """

    meter: str
    source: str
    """What it measured, in words."""
    times_s: NDArray[np.float64]
    energy_mj: NDArray[np.float64]
    falls_s: list[float] = field(default_factory=list)
    lows_s: list[tuple[float, float]] | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def rate_hz(self) -> float:
        return (len(self.times_s) - 1) / float(self.times_s[-1] - self.times_s[0])

    def windows_s(self, expected_s: list[float]) -> list[tuple[float, float]]:
        """Beginning and end of each window, of which there were so many, about so long.

        What came before the first (a reset moves the pin, too) is left out. An InputError if there
        are fewer in the log.
        """
        count = len(expected_s)
        if self.lows_s is not None:
            found = [one for one in self.lows_s if one[1] - one[0] > _LEAST_SHARE * min(expected_s)]
        else:
            last = self.falls_s[-2 * count :]
            found = list(zip(last[::2], last[1::2], strict=False))
        if len(found) < count:
            raise InputError(
                f"the log of {self.meter} has {len(found)} windows, the board measured {count}: is "
                "its pin wired to the meter, and was the log on from before the first to the last?"
            )
        return found[-count:]


def of_power(
    times_s: NDArray[np.float64], power_mw: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times and energy of samples of power, by the trapezoid rule; an InputError if they do not
    ascend."""
    if len(times_s) < 2 or not (np.isfinite(times_s).all() and np.isfinite(power_mw).all()):
        raise InputError("a meter's log needs two samples or more, all of them numbers")
    steps = np.diff(times_s)
    if not (steps > 0).all():
        raise InputError(f"the log's times go back at sample {int(np.argmax(steps <= 0)) + 1}")
    areas = steps * (power_mw[1:] + power_mw[:-1]) / 2
    return times_s, np.concatenate([[0.0], np.cumsum(areas)])


def lows(times_s: NDArray[np.float64], level: NDArray[np.bool_]) -> list[tuple[float, float]]:
    """When a logged pin was low: from half-way between the samples around each edge.

    What lasts beyond the ends of the log is left out.
    """
    changes = np.flatnonzero(np.diff(level.astype(np.int8)))
    edges = [(float(times_s[at] + times_s[at + 1]) / 2, bool(level[at + 1])) for at in changes]
    return [
        (start, end) for (start, high), (end, high_again) in pairwise(edges) if high_again > high
    ]
