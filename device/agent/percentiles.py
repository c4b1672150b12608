"""Percentiles of latencies with bootstrap intervals, without NumPy.

Runs of one round resemble each other (same heat, same neighbours), so rounds are resampled, not
runs: the percentile bootstrap of Efron (1979) over clusters. Equal figures give equal intervals.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

RESAMPLES = 1000
CONFIDENCE = 0.95
_PERCENTS = (50, 90, 95, 99)
# Bounds the time of resampling: more runs than that change no percentile that is reported.
_MOST_VALUES = 2000


@dataclass(frozen=True)
class Percentile:
    """One of them with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """A series in the unit of its values; the field that holds it names the unit."""

    count: int
    rounds: int
    mean: float
    minimum: float
    maximum: float
    percentiles: dict[str, Percentile]
    """``p50``, ``p90``, ``p95``, ``p99``."""

    @property
    def median(self) -> float:
        """The 50th percentile."""
        return self.percentiles["p50"].value


def summarize(rounds: Sequence[Sequence[float]], seed: int = 0) -> Summary:
    """Describe runs that were taken in rounds.

    With one round only, runs are resampled, which is too sure of itself where they resemble
    each other.

    Raises:
        ValueError: there are no values.
    """
    values = sorted(value for run in rounds for value in run)
    if not values:
        raise ValueError("no values to summarize")
    clusters = [run for run in rounds if run]
    if len(clusters) == 1:
        clusters = [[value] for value in clusters[0]]
    lows, highs = _intervals(_thinned(clusters), seed)
    return Summary(
        count=len(values),
        rounds=len(rounds),
        mean=sum(values) / len(values),
        minimum=values[0],
        maximum=values[-1],
        percentiles={
            f"p{percent}": Percentile(percentile(values, percent), low, high)
            for percent, low, high in zip(_PERCENTS, lows, highs)
        },
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Of ascending values, interpolated linearly between neighbours (as NumPy does it)."""
    position = (len(ordered) - 1) * percent / 100
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def _thinned(clusters: list[Sequence[float]]) -> list[Sequence[float]]:
    step = max(1, -(-sum(len(cluster) for cluster in clusters) // _MOST_VALUES))
    if len(clusters[0]) == 1:
        return clusters[::step]
    return [sorted(cluster)[step // 2 :: step] or cluster for cluster in clusters]


def _intervals(clusters: list[Sequence[float]], seed: int) -> tuple[list[float], list[float]]:
    """Low and high ends for each of ``_PERCENTS``.

    All values are sorted once; a resample is how often each counts, so that its percentile is
    found by running sums instead of by sorting again.
    """
    ordered = sorted((value, index) for index, cluster in enumerate(clusters) for value in cluster)
    values, owners = [value for value, _ in ordered], [owner for _, owner in ordered]
    generator = random.Random(seed)
    found: list[list[float]] = [[] for _ in _PERCENTS]
    for _ in range(RESAMPLES):
        weights = [0] * len(clusters)
        for _ in clusters:
            weights[generator.randrange(len(clusters))] += 1
        sums = list(accumulate(weights[owner] for owner in owners))
        for column, percent in zip(found, _PERCENTS):
            position = (sums[-1] - 1) * percent / 100
            below = values[bisect_right(sums, int(position))]
            above = values[bisect_right(sums, min(int(position) + 1, sums[-1] - 1))]
            column.append(below + (above - below) * (position % 1))
    tail = 50 * (1 - CONFIDENCE)
    for column in found:
        column.sort()
    return (
        [percentile(column, tail) for column in found],
        [percentile(column, 100 - tail) for column in found],
    )
