"""Columns over a numbered axis: a histogram, or a mean per group of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from headgate.profiling.charts import svg

WIDTH, HEIGHT = 370, 190
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 26, 48


def column_chart(
    values: Sequence[float],
    edges: Sequence[float],
    kind: str,
    title: str,
    titles: Sequence[str],
    axis_title: str,
    value_title: str,
    name_edge: Callable[[float], str],
    name_value: Callable[[float], str],
    floor: float = 0.0,
    mark: float | None = None,
) -> Markup:
    """Column i stands from ``edges[i]`` to ``edges[i + 1]`` and is ``values[i]`` tall.

    Args:
        kind: CSS class of the columns, and ``titles`` their tooltips.
        name_edge: Text of a tick of the horizontal axis; ``name_value`` of the vertical one.
        floor: Where the columns start.
        mark: A vertical line here, such as the mean.
    """
    across = svg.Axis(edges[0], edges[-1], LEFT, WIDTH - RIGHT)
    tallest = (max(values) - floor) * 1.05
    whole = all(isinstance(value, int) for value in values)
    top = floor + (tallest if tallest > 0 else 1.0)
    up = svg.Axis(floor, top, HEIGHT - BOTTOM, TOP, whole)
    parts = [svg.grid(across, up, name_edge, name_value, axis_title, value_title)]
    for index, value in enumerate(values):
        left, right, y = across(edges[index]), across(edges[index + 1]), up(max(value, floor))
        width = max(right - left - 1, 0.5)
        parts.append(svg.rect(kind, left, y, width, up.start - y, titles[index]))
    if mark is not None:
        parts.append(svg.line("mean", (across(mark), up.start), (across(mark), up.end)))
    return svg.drawing("".join(parts), WIDTH, HEIGHT, title)
