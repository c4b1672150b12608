"""Axes: from values to pixels, with ticks at round numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MARGIN = 0.08  # of the span of the data, on either side


@dataclass(frozen=True)
class Axis:
    """Maps ``low`` to the pixel ``start``, ``high`` to ``end``; pixels may fall as values rise."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)

    def ticks(self, count: int = 6) -> list[float]:
        """At most about ``count`` multiples of 1, 2, 2.5 or 5 times a power of ten."""
        rough = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * one for one in (1, 2, 2.5, 5, 10) if power * one >= rough * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]


def axis_around(values: Sequence[float], start: float, end: float) -> Axis:
    """An axis with a margin around the values; one value gets some room on either side."""
    low, high = min(values), max(values)
    margin = MARGIN * (high - low) or abs(high) * MARGIN or 1.0
    return Axis(low - margin, high + margin, start, end)
