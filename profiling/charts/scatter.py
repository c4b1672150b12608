"""Accuracy against a cost: a marker per network, of a shape per method, a fill per program."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from headgate.profiling.charts import svg
from headgate.profiling.charts.labels import Box, place_labels

WIDTH, HEIGHT = 760, 430
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 34, 52
RADIUS = 6.0

_SHAPES = {
    "circle": '<circle r="6"/>',
    "square": '<rect x="-5.5" y="-5.5" width="11" height="11"/>',
    "triangle": '<path d="M0 -7L6.5 5H-6.5Z"/>',
    "wedge": '<path d="M0 7L6.5 -5H-6.5Z"/>',
    "diamond": '<path d="M0 -7.5L7.5 0L0 7.5L-7.5 0Z"/>',
    "cross": '<path d="M-2 -6.5H2V-2H6.5V2H2V6.5H-2V2H-6.5V-2H-2Z"/>',
}
_MARKS = {
    "dense": "square",
    "fbs": "circle",
    "dcp": "triangle",
    "cgnet": "diamond",
    "frs": "wedge",
    "gated": "circle",
    "pruned": "wedge",
}
# How a marker is filled, and what lies on it: headgate's are coloured, others' are outlines.
_FILLS = {
    "solid": ("solid", ""),
    "cored": ("solid", '<circle class="core" r="2.2"/>'),
    "hollow": ("hollow", ""),
    "dotted": ("hollow", '<circle class="dot" r="1.8"/>'),
}


@dataclass(frozen=True)
class Point:
    """One network: its marker's shape and colour are those of its method, ``fill`` is of FILLS."""

    name: str
    cost: float
    value: float
    method: str
    fill: str
    title: str


def scatter(
    points: Sequence[Point],
    title: str,
    cost_title: str,
    value_title: str,
    name_cost: Callable[[float], str],
    name_value: Callable[[float], str],
) -> Markup:
    """The points, of which there is at least one; the front is in bold and joined by steps."""
    costs = [point.cost for point in points]
    values = [point.value for point in points]
    across = svg.axis_around(costs, LEFT, WIDTH - RIGHT)
    up = svg.axis_around(values, HEIGHT - BOTTOM, TOP)
    front = pareto_front(costs, values)
    centres = [(across(cost), up(value)) for cost, value in zip(costs, values, strict=True)]
    frame = Box(LEFT, TOP, WIDTH - RIGHT - LEFT, HEIGHT - BOTTOM - TOP)
    corners = _steps([centres[index] for index in front], frame)
    # The front's names first, so that they are nearest to their points.
    order = [*front, *(index for index in range(len(points)) if index not in front)]
    boxes = place_labels(
        [centres[index] for index in order],
        [points[index].name for index in order],
        frame,
        RADIUS,
        _boxes(corners),
    )
    parts = [svg.grid(across, up, name_cost, name_value, cost_title, value_title)]
    path = "L".join(f"{x:g} {y:g}" for x, y in corners)
    parts.append(svg.element("path", "front", title="Pareto front", d=f"M{path}"))
    named = dict(zip(order, boxes, strict=True))
    for index, point in enumerate(points):
        parts.append(_named_mark(point, centres[index], named[index], index in front))
    return svg.drawing("".join(parts), WIDTH, HEIGHT, title)


def key_mark(method: str, fill: str = "solid") -> Markup:
    """A marker alone, for the legend."""
    return Markup(
        f'<svg class="key" viewBox="-9 -9 18 18" aria-hidden="true">{_mark(method, fill)}</svg>'
    )


def _mark(method: str, fill: str) -> str:
    shape = _SHAPES[_MARKS.get(method, "cross")]
    style = method if method in _MARKS else "other"
    kind, middle = _FILLS[fill]
    return f'<g class="mark {style} {kind}">{shape}{middle}</g>'


def _named_mark(point: Point, centre: tuple[float, float], box: Box | None, best: bool) -> str:
    x, y = centre
    parts = []
    if box is not None:
        near = box.nearest(x, y)
        if math.dist(near, centre) > 2.5 * RADIUS:
            parts.append(svg.line("leader", centre, near))
        # The estimated width is generous: keep the text at the side of its point.
        text_x, anchor = box.x + box.width / 2, "middle"
        if box.x > x:
            text_x, anchor = box.x, "start"
        elif box.x + box.width < x:
            text_x, anchor = box.x + box.width, "end"
        kind = "point front" if best else "point"
        parts.append(svg.label(text_x, box.y + box.height / 2, point.name, kind, anchor))
    mark = _mark(point.method, point.fill)
    parts.append(svg.element("g", "", mark, transform=f"translate({x:g} {y:g})"))
    return svg.element("g", "", "".join(parts), title=point.title)


def _steps(front: Sequence[tuple[float, float]], frame: Box) -> list[tuple[float, float]]:
    """Corners of a staircase through the front."""
    x, y = front[0]
    corners = [(x, frame.y + frame.height), (x, y)]
    for x, next_y in front[1:]:
        corners += [(x, y), (x, next_y)]
        y = next_y
    return [*corners, (frame.x + frame.width, y)]


def _boxes(corners: Sequence[tuple[float, float]]) -> list[Box]:
    """The lines between corners, as boxes two pixels wide."""
    return [
        Box(min(x0, x1) - 1, min(y0, y1) - 1, abs(x1 - x0) + 2, abs(y1 - y0) + 2)
        for (x0, y0), (x1, y1) in pairwise(corners)
    ]


def pareto_front(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """Indices of the points that no other beats in one of the two, being no worse in the other."""
    order = sorted(range(len(costs)), key=lambda index: (costs[index], -values[index], index))
    front: list[int] = []
    for index in order:
        last = front[-1] if front else index
        equal = (costs[index], values[index]) == (costs[last], values[last])
        if equal or values[index] > values[last]:
            front.append(index)
    return front
