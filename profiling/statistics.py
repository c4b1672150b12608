"""What is said about a series: centre, tail, spread, certainty, drift, correlation.

Timings have a hard floor and a long tail, so the centre is the median, the spread the distance
between the quartiles, and the certainty a percentile bootstrap of the median (Efron 1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
CONFIDENCE = 0.95
DRIFT_THRESHOLD = 0.05
_BLOCK_VALUES = 2_000_000  # bounds the memory of one block of resamples


@dataclass(frozen=True)
class Summary:
    """A series in the unit of its values; the field that holds it names the unit."""

    count: int
    median: float
    p95: float
    minimum: float
    maximum: float
    spread: float
    """Third quartile minus first."""
    low: float
    high: float
    """95 % bootstrap interval of the median."""
    drift: float
    """Median of the last third over median of the first third, minus one."""
    drifted: bool
    """The thirds differ by more than 5 % and by more than chance: heat, a governor, a neighbour."""


def summarize(
    values: Sequence[float] | NDArray[np.floating],
    rounds: Sequence[float] | NDArray[np.floating] | None = None,
) -> Summary:
    """Describe a series in the order it was taken.

    Args:
        values: The series.
        rounds: Medians of its rounds, where it was taken in rounds. Runs within a round resemble
            each other, so the interval is that of the median over rounds.

    Raises:
        ValueError: The series is empty or holds a value that is not finite.
    """
    series = _checked(values)
    low, high = bootstrap_interval(series if rounds is None else rounds)
    drift, drifted = measure_drift(series)
    quartiles = np.percentile(series, [25, 75])
    return Summary(
        count=int(series.size),
        median=float(np.median(series)),
        p95=float(np.percentile(series, 95)),
        minimum=float(series.min()),
        maximum=float(series.max()),
        spread=float(quartiles[1] - quartiles[0]),
        low=low,
        high=high,
        drift=drift,
        drifted=drifted,
    )


def bootstrap_interval(
    values: Sequence[float] | NDArray[np.floating],
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the median; equal values give equal intervals."""
    series = _checked(values)
    generator = np.random.default_rng(seed)
    rows = max(1, _BLOCK_VALUES // series.size)
    medians = []
    for start in range(0, resamples, rows):
        shape = (min(rows, resamples - start), series.size)
        medians.append(np.median(series[generator.integers(0, series.size, shape)], axis=1))
    tail = 50 * (1 - confidence)
    low, high = np.percentile(np.concatenate(medians), [tail, 100 - tail])
    return float(low), float(high)


def measure_drift(
    values: Sequence[float] | NDArray[np.floating], *, threshold: float = DRIFT_THRESHOLD
) -> tuple[float, bool]:
    """Relative change from the first third to the last, and whether it deserves a warning.

    Fewer than nine values give no thirds worth comparing: no drift.
    """
    series = _checked(values)
    if series.size < 9:
        return 0.0, False
    third = series.size // 3
    first, last = series[:third], series[-third:]
    start = float(np.median(first))
    if start == 0:
        return 0.0, False
    drift = float(np.median(last)) / start - 1
    first_low, first_high = bootstrap_interval(first)
    last_low, last_high = bootstrap_interval(last)
    apart = last_low > first_high or first_low > last_high
    return drift, bool(abs(drift) > threshold and apart)


@dataclass(frozen=True)
class Distribution:
    """What a quantity is over images: where it lies and how bad it gets."""

    minimum: float
    mean: float
    p95: float
    maximum: float


def distribution(values: Sequence[float] | NDArray[np.number]) -> Distribution:
    """Describe a quantity over images.

    Raises:
        ValueError: There are no values, or one is not finite.
    """
    series = _checked(values)
    return Distribution(
        minimum=float(series.min()),
        mean=float(series.mean()),
        p95=float(np.percentile(series, 95)),
        maximum=float(series.max()),
    )


def rank_correlation(
    first: Sequence[float] | NDArray[np.number], second: Sequence[float] | NDArray[np.number]
) -> float | None:
    """Spearman's rank correlation in -1..1, ties at their mean rank; None if one is constant.

    Raises:
        ValueError: The series are empty or a value is not finite.
    """
    one, other = _ranks(_checked(first)), _ranks(_checked(second))
    spread = float(one.std() * other.std())
    if spread == 0:
        return None
    return float(((one - one.mean()) * (other - other.mean())).mean()) / spread


def _ranks(series: NDArray[np.float64]) -> NDArray[np.float64]:
    _, group, sizes = np.unique(series, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    mean_ranks: NDArray[np.float64] = last - (sizes - 1) / 2
    return mean_ranks[group]


def thin(values: NDArray[np.floating], limit: int = 4000) -> list[float]:
    """At most ``limit`` values, evenly spaced and rounded to three decimals, to be stored."""
    step = max(1, -(-values.size // limit))
    return [round(float(value), 3) for value in values[::step]]


def _checked(values: Sequence[float] | NDArray[np.number]) -> NDArray[np.float64]:
    series = np.asarray(values, dtype=np.float64).ravel()
    if series.size == 0:
        raise ValueError("no values to summarize")
    if not np.isfinite(series).all():
        raise ValueError("values to summarize are not all finite")
    return series
