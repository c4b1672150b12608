"""Columns over a numbered axis: a histogram, or a mean per group of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from headgate.profiling.charts import svg
from headgate.profiling.charts.axis import Axis

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
        values: Heights.
        edges: One more than values, rising.
        kind: CSS class of the columns.
        title: Text alternative of the drawing.
        titles: Tooltip of each column.
        axis_title: What the horizontal axis is.
        value_title: What the vertical axis is.
        name_edge: Text of a tick of the horizontal axis.
        name_value: Text of a tick of the vertical axis.
        floor: Where the columns start; zero unless zero would hide what they show.
        mark: A vertical line here, such as the mean.
    """
    across = Axis(edges[0], edges[-1], LEFT, WIDTH - RIGHT)
    tallest = (max(values) - floor) * 1.05
    up = Axis(floor, floor + (tallest if tallest > 0 else 1.0), HEIGHT - BOTTOM, TOP)
    parts = [svg.grid(across, up, name_edge, name_value, axis_title, value_title)]
    for index, value in enumerate(values):
        left, right = across(edges[index]), across(edges[index + 1])
        y = up(max(value, floor))
        parts.append(
            f'<rect class="{kind}" x="{left:g}" y="{y:g}" width="{max(right - left - 1, 0.5):g}" '
            f'height="{up.start - y:g}"><title>{escape(titles[index])}</title></rect>'
        )
    if mark is not None:
        x = across(mark)
        parts.append(f'<line class="mean" x1="{x:g}" x2="{x:g}" y1="{up.start}" y2="{up.end}"/>')
    return svg.drawing("".join(parts), WIDTH, HEIGHT, title)
