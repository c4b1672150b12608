"""Histograms of latencies on one axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headgate.profiling import charts

TAIL = 2.0  # latency axes end at this many times the longest median


def distributions(series: Sequence[tuple[str, str, Sequence[float]]]) -> dict[str, Any] | None:
    """The axis, from the fastest run to the slowest 99th percentile, and a row per series.

    The axis ends earlier where that is far out.

    Args:
        series: Name, kind (a CSS class) and latencies in microseconds; None for no series.
    """
    if not series:
        return None
    start = min(min(values) for _, _, values in series)
    end = max(float(np.percentile(values, 99)) for _, _, values in series)
    end = min(end, TAIL * max(float(np.median(values)) for _, _, values in series))
    margin = 0.03 * (end - start) or 1.0
    start, end = max(0.0, start - margin), end + margin
    rows = []
    for name, kind, values in series:
        median, title = float(np.median(values)), f"{len(values)} runs of {name}"
        chart = charts.histogram(values, start, end, median, kind, title)
        rows.append((name, kind, len(values), median, chart))
    return {"start": start, "end": end, "rows": rows}
