"""Drawings for table cells.

Widths stretch with the cell, so every drawing has its own coordinates and no text; numbers stand
beside it in HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from headgate.profiling.charts.svg import element, line

WIDTH = 200
STRIP_COLUMNS = 48
BINS = 72


def paired_bars(lower: float, upper: float | None, scale: float, kind: str, title: str) -> Markup:
    """A bar of ``lower``, under a thin reference bar of ``upper`` where there is one.

    ``scale`` is the value that fills the width; ``kind`` the CSS class of the lower bar.
    """
    above = "" if upper is None else _bar("reference", 2, _along(upper, scale), 5)
    return _cell(above + _bar(kind, 5 if upper is None else 8, _along(lower, scale), 8), 18, title)


def latency_bar(
    median: float, low: float, high: float, p95: float, scale: float, kind: str, title: str
) -> Markup:
    """A bar to the median with its interval as a band, and a tick at the 95th percentile."""
    middle, start, end, tail = (_along(value, scale) for value in (median, low, high, p95))
    parts = [
        _bar(kind, 5, middle, 10),
        element("rect", "band", x=start, y=3, width=max(end - start, 0.6), height=14),
        line("tail", (middle, 10), (tail, 10)),
        line("tail", (tail, 6), (tail, 14)),
    ]
    return _cell("".join(parts), 20, title)


def activity_strip(active: Sequence[int], channels: int) -> Markup:
    """One column per image, filled to the share of its channels that were computed, and as dark.

    More images than columns are averaged in equal groups.
    """
    height = 18
    groups = np.array_split(np.asarray(active, dtype=float), min(len(active), STRIP_COLUMNS))
    step = WIDTH / len(groups)
    columns = [element("rect", "idle", width=WIDTH, height=height)]
    first = 0
    for index, group in enumerate(groups):
        share = float(group.mean()) / channels
        last = first + len(group) - 1
        images = f"image {first}" if first == last else f"images {first} to {last}"
        columns.append(
            element(
                "rect",
                "cell",
                title=f"{images}: {group.mean():.3g} of {channels} channels",
                x=index * step,
                y=height * (1 - share),
                width=step + 0.2,
                height=height * share,
                fill_opacity=0.4 + 0.6 * share,
            )
        )
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
        place: dict[str, Any] = {
            "x": index * step,
            "y": height - tall,
            "width": step - 0.25,
            "height": tall,
        }
        bars.append(element("rect", kind, **place))
    x = WIDTH * (median - start) / (end - start)
    bars.append(line("median", (x, 0), (x, height)))
    return _cell("".join(bars), height, title)


def _bar(kind: str, y: float, width: float, height: float) -> str:
    return element("rect", kind, y=y, width=width, height=height, rx=1)


def _along(value: float, scale: float) -> float:
    return WIDTH * min(value / scale, 1.0) if scale > 0 else 0.0


def _cell(content: str, height: int, title: str = "") -> Markup:
    box = f"0 0 {WIDTH} {height}"
    place: dict[str, Any] = {
        "viewBox": box,
        "height": height,
        "preserveAspectRatio": "none",
        "role": "img",
    }
    return Markup(element("svg", "", content, title=title, **place))
