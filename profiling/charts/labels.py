"""Placing the names of points so that they lie on no other name, no point and no line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CHARACTER = 7.6  # pixels, on the wide side for bold 12 px system fonts
HEIGHT = 15.0
CLEARANCE = 9.0  # between a point's centre and the nearest edge of its label
STEP = 5.0


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels; (x, y) is its upper left corner."""

    x: float
    y: float
    width: float
    height: float

    def overlaps(self, other: Box) -> bool:
        return (
            self.x < other.x + other.width
            and other.x < self.x + self.width
            and self.y < other.y + other.height
            and other.y < self.y + self.height
        )

    def inside(self, other: Box) -> bool:
        return (
            other.x <= self.x
            and self.x + self.width <= other.x + other.width
            and other.y <= self.y
            and self.y + self.height <= other.y + other.height
        )

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """The point of the box that is nearest to (x, y)."""
        return (
            min(max(x, self.x), self.x + self.width),
            min(max(y, self.y), self.y + self.height),
        )


def place_labels(
    points: Sequence[tuple[float, float]],
    names: Sequence[str],
    frame: Box,
    marker: float,
    lines: Sequence[Box] = (),
) -> list[Box | None]:
    """A box for every point's name, as near as the ones before it allow; None without room.

    Args:
        points: Centres of the markers in pixels.
        frame: No label leaves it.
        marker: Half the width of a marker, which no label covers.
        lines: What else labels must leave free.
    """
    taken = [Box(x - marker, y - marker, 2 * marker, 2 * marker) for x, y in points]
    taken += lines
    placed: list[Box | None] = []
    for (x, y), name in zip(points, names, strict=True):
        width = CHARACTER * len(name)
        box = next(
            (
                one
                for one in _candidates(x, y, width, frame)
                if one.inside(frame) and not any(one.overlaps(other) for other in taken)
            ),
            None,
        )
        if box is not None:
            taken.append(box)
        placed.append(box)
    return placed


def _candidates(x: float, y: float, width: float, frame: Box) -> Iterator[Box]:
    """Right, left, above, below; then anywhere in the frame, the nearest first."""
    middle = y - HEIGHT / 2
    yield Box(x + CLEARANCE, middle, width, HEIGHT)
    yield Box(x - CLEARANCE - width, middle, width, HEIGHT)
    yield Box(x - width / 2, y - CLEARANCE - HEIGHT, width, HEIGHT)
    yield Box(x - width / 2, y + CLEARANCE, width, HEIGHT)
    columns = [frame.x + STEP * step for step in range(int((frame.width - width) / STEP) + 1)]
    rows = [frame.y + STEP * step for step in range(int((frame.height - HEIGHT) / STEP) + 1)]
    boxes = [Box(column, row, width, HEIGHT) for row in rows for column in columns]

    def distance(box: Box) -> float:
        nearest_x, nearest_y = box.nearest(x, y)
        return (nearest_x - x) ** 2 + (nearest_y - y) ** 2

    yield from sorted(boxes, key=distance)
