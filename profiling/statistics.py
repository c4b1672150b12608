"""Ratios with their intervals, and what a quantity is over images."""

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
    """Of ratios taken round by round, with the interval between two order statistics."""
    middle = summarize([[float(one) for one in ratios]]).middle
    return Ratio(middle.value, middle.low, middle.high)


def ratio_of_medians(base: Percentile, own: Percentile) -> Ratio:
    """Of medians of separate runs; the interval takes the far ends of both intervals."""
    return Ratio(base.value / own.value, base.low / own.high, base.high / own.low)


@dataclass(frozen=True)
class Distribution:
    """What a quantity is over images."""

    minimum: float
    mean: float
    p95: float
    maximum: float


def distribution(values: Sequence[float] | NDArray[np.number]) -> Distribution:
    series = np.asarray(values, dtype=np.float64)
    return Distribution(
        minimum=float(series.min()),
        mean=float(series.mean()),
        p95=float(np.percentile(series, 95)),
        maximum=float(series.max()),
    )


def rank_correlation(
    first: Sequence[float] | NDArray[np.number], second: Sequence[float] | NDArray[np.number]
) -> float | None:
    """Spearman's, in -1..1, ties at their mean rank; None if one of the two is constant."""
    one, other = _ranks(first), _ranks(second)
    spread = float(one.std() * other.std())
    if spread == 0:
        return None
    return float(((one - one.mean()) * (other - other.mean())).mean()) / spread


def _ranks(values: Sequence[float] | NDArray[np.number]) -> NDArray[np.float64]:
    series = np.asarray(values, dtype=np.float64)
    if not np.isfinite(series).all():
        raise ValueError("values to rank are not all finite")
    _, group, sizes = np.unique(series, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    mean_ranks: NDArray[np.float64] = last - (sizes - 1) / 2
    return mean_ranks[group]
