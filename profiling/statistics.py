"""Ratios with their intervals, and what a quantity is over images.

Series of times are summarised by the agent (``device/agent/percentiles.py``), here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headgate.device.agent.percentiles import Percentile, summarize


@dataclass(frozen=True)
class Ratio:
    """A median with its 95 % interval."""

    median: float
    low: float
    high: float


def ratio_of_rounds(ratios: Sequence[float] | NDArray[np.floating]) -> Ratio:
    """Of ratios taken round by round: drift of the machine cancels within each.

    Ratios of rounds do not resemble each other as runs do, so the interval is the one between two
    order statistics, which needs no distribution.
    """
    middle = summarize([[float(one) for one in ratios]]).middle
    return Ratio(middle.value, middle.low, middle.high)


def ratio_of_medians(base: Percentile, own: Percentile) -> Ratio:
    """Of medians of separate runs; the interval takes the far ends of both."""
    return Ratio(base.value / own.value, base.low / own.high, base.high / own.low)


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


def _checked(values: Sequence[float] | NDArray[np.number]) -> NDArray[np.float64]:
    series = np.asarray(values, dtype=np.float64).ravel()
    if series.size == 0:
        raise ValueError("no values to summarize")
    if not np.isfinite(series).all():
        raise ValueError("values to summarize are not all finite")
    return series
