"""Drawings for table cells, stretched to the cell's width and so without text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from headgate.profiling.charts.svg import element, line, rect

WIDTH = 200
STRIP_COLUMNS = 48
BINS = 72


def paired_bars(lower: float, upper: float | None, scale: float, kind: str, title: str) -> Markup:
    """A bar of CSS class ``kind``, under a thin reference bar if any; ``scale`` fills the width."""
    above = "" if upper is None else rect("reference", 0, 2, _along(upper, scale), 5, rx=1)
    bar = rect(kind, 0, 5 if upper is None else 8, _along(lower, scale), 8, rx=1)
    return _cell(above + bar, 18, title)


def latency_bar(
    median: float, low: float, high: float, p95: float, scale: float, kind: str, title: str
) -> Markup:
    """A bar to the median with its interval as a band, and a tick at the 95th percentile."""
    middle, start, end, tail = (_along(value, scale) for value in (median, low, high, p95))
    parts = [
        rect(kind, 0, 5, middle, 10, rx=1),
        rect("band", start, 3, max(end - start, 0.6), 14),
        line("tail", (middle, 10), (tail, 10)),
        line("tail", (tail, 6), (tail, 14)),
    ]
    return _cell("".join(parts), 20, title)


def activity_strip(active: Sequence[int], channels: int) -> Markup:
    """A column per image, or group of them, filled to the share of the channels computed."""
    height = 18
    groups = np.array_split(np.asarray(active, dtype=float), min(len(active), STRIP_COLUMNS))
    step = WIDTH / len(groups)
    columns = [rect("idle", 0, 0, WIDTH, height)]
    first = 0
    for index, group in enumerate(groups):
        share = float(group.mean()) / channels
        last = first + len(group) - 1
        images = f"image {first}" if first == last else f"images {first} to {last}"
        box = index * step, height * (1 - share), step + 0.2, height * share
        title = f"{images}: {group.mean():.3g} of {channels} channels"
        columns.append(rect("cell", *box, title, fill_opacity=0.4 + 0.6 * share))
        first = last + 1
    return _cell("".join(columns), height)


def histogram(
    values: Sequence[float], start: float, end: float, median: float, kind: str, title: str
) -> Markup:
    """Distribution of latencies between ``start`` and ``end``; later values pile up at the end."""
    height = 44
    counts, _ = np.histogram(np.clip(values, start, end), bins=BINS, range=(start, end))
    tallest = max(int(counts.max()), 1)
    step = WIDTH / BINS
    bars = [line("axis", (0, height), (WIDTH, height))]
    for index in np.flatnonzero(counts):
        tall = max((height - 6) * int(counts[index]) / tallest, 0.8)
        bars.append(rect(kind, index * step, height - tall, step - 0.25, tall))
    x = WIDTH * (median - start) / (end - start)
    bars.append(line("median", (x, 0), (x, height)))
    return _cell("".join(bars), height, title)


def _along(value: float, scale: float) -> float:
    return WIDTH * min(value / scale, 1.0) if scale > 0 else 0.0


def _cell(content: str, height: int, title: str = "") -> Markup:
    about = {"viewBox": f"0 0 {WIDTH} {height}", "preserveAspectRatio": "none", "role": "img"}
    return Markup(element("svg", "", content, title=title, height=height, **about))
