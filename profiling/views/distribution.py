"""Histograms of latencies on one axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headgate.profiling import charts, units

TAIL = 2.0  # latency axes end at this many times the longest median


def distribution_rows(series: Sequence[tuple[str, str, Sequence[float]]]) -> list[dict[str, Any]]:
    """One row per series, from the fastest run to the slowest 99th percentile.

    The axis ends earlier where that is far out.

    Args:
        series: Name, kind (a CSS class) and latencies in microseconds.
    """
    if not series:
        return []
    start = min(min(values) for _, _, values in series)
    end = max(float(np.percentile(values, 99)) for _, _, values in series)
    end = min(end, TAIL * max(float(np.median(values)) for _, _, values in series))
    margin = 0.03 * (end - start) or 1.0
    start, end = max(0.0, start - margin), end + margin
    rows = []
    for name, kind, values in series:
        median = float(np.median(values))
        title = f"{len(values)} runs of {name}"
        rows.append(
            {
                "name": name,
                "kind": kind,
                "runs": len(values),
                "median": units.microseconds(median),
                "chart": charts.histogram(values, start, end, median, kind, title),
                "start": units.microseconds(start),
                "end": units.microseconds(end),
            }
        )
    return rows
