"""Drawings for table cells.

Widths stretch with the cell, so every drawing has its own coordinates and no text; numbers stand
beside it in HTML.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape

WIDTH = 200
STRIP_COLUMNS = 48
BINS = 72


def paired_bars(lower: float, upper: float | None, scale: float, kind: str, title: str) -> Markup:
    """A bar of ``lower``, under a thin reference bar of ``upper`` where there is one.

    ``scale`` is the value that fills the width; ``kind`` the CSS class of the lower bar.
    """
    width = _along(lower, scale)
    if upper is None:
        return _svg(f'<rect class="{kind}" y="5" width="{width}" height="8" rx="1"/>', 18, title)
    bars = f'<rect class="reference" y="2" width="{_along(upper, scale)}" height="5" rx="1"/>'
    bars += f'<rect class="{kind}" y="8" width="{width}" height="8" rx="1"/>'
    return _svg(bars, 18, title)


def latency_bar(
    median: float, low: float, high: float, p95: float, scale: float, kind: str, title: str
) -> Markup:
    """A bar to the median with its interval as a band, and a tick at the 95th percentile."""
    start, end = _along(low, scale), _along(high, scale)
    tail = _along(p95, scale)
    band = _round(max(end - start, 0.6))
    parts = [
        f'<rect class="{kind}" y="5" width="{_along(median, scale)}" height="10" rx="1"/>',
        f'<rect class="band" x="{start}" y="3" width="{band}" height="14"/>',
        f'<line class="tail" x1="{_along(median, scale)}" x2="{tail}" y1="10" y2="10"/>',
        f'<line class="tail" x1="{tail}" x2="{tail}" y1="6" y2="14"/>',
    ]
    return _svg("".join(parts), 20, title)


def activity_strip(active: Sequence[int], channels: int) -> Markup:
    """One column per image, filled to the share of its channels that were computed, and as dark.

    More images than columns are averaged in equal groups.
    """
    height = 18
    groups = np.array_split(np.asarray(active, dtype=float), min(len(active), STRIP_COLUMNS))
    step = WIDTH / len(groups)
    columns = [f'<rect class="idle" width="{WIDTH}" height="{height}"/>']
    first = 0
    for index, group in enumerate(groups):
        share = float(group.mean()) / channels
        last = first + len(group) - 1
        images = f"image {first}" if first == last else f"images {first} to {last}"
        columns.append(
            f'<rect class="cell" x="{_round(index * step)}" y="{_round(height * (1 - share))}" '
            f'width="{_round(step + 0.2)}" height="{_round(height * share)}" '
            f'fill-opacity="{_round(0.4 + 0.6 * share, 3)}">'
            f"<title>{images}: {group.mean():.3g} of {channels} channels</title></rect>"
        )
        first = last + 1
    return _svg("".join(columns), height, None)


def histogram(
    values: Sequence[float], start: float, end: float, median: float, kind: str, title: str
) -> Markup:
    """Distribution of latencies between ``start`` and ``end``; later values pile up at the end."""
    height = 44
    counts, _ = np.histogram(np.clip(values, start, end), bins=BINS, range=(start, end))
    tallest = max(int(counts.max()), 1)
    step = WIDTH / BINS
    bars = [f'<line class="axis" x1="0" x2="{WIDTH}" y1="{height}" y2="{height}"/>']
    for index, count in enumerate(counts):
        if count:
            tall = max((height - 6) * int(count) / tallest, 0.8)
            bars.append(
                f'<rect class="{kind}" x="{_round(index * step)}" y="{_round(height - tall)}" '
                f'width="{_round(step - 0.25)}" height="{_round(tall)}"/>'
            )
    x = _round(WIDTH * (median - start) / (end - start))
    bars.append(f'<line class="median" x1="{x}" x2="{x}" y1="0" y2="{height}"/>')
    return _svg("".join(bars), height, title)


def _along(value: float, scale: float) -> float:
    return _round(WIDTH * min(value / scale, 1.0)) if scale > 0 else 0.0


def _round(value: float, digits: int = 2) -> float:
    return round(float(value), digits)


def _svg(content: str, height: int, title: str | None) -> Markup:
    label = f"<title>{escape(title)}</title>" if title else ""
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {height}" height="{height}" preserveAspectRatio="none" '
        f'role="img">{label}{content}</svg>'
    )
