"""Power over time, with the spans that count shaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from headgate.profiling.charts import svg

WIDTH, HEIGHT = 940, 250
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 34, 48
COLUMNS = 500  # the trace has at most two points in each


@dataclass(frozen=True)
class Span:
    """From when to when in seconds, and the mean power; ``kind`` is a CSS class."""

    name: str
    start: float
    end: float
    mean: float
    kind: str
    title: str


def power_trace(
    trace: Sequence[tuple[float, float]],
    spans: Sequence[Span],
    title: str,
    name_power: Callable[[float], str],
    ceiling: float,
) -> Markup:
    """A line of power over seconds, above shaded spans with their means.

    Args:
        trace: Seconds and power, rising in time.
        name_power: Text of a tick of the power axis.
        ceiling: Where that axis ends; it starts at zero.
    """
    times = [time for time, _ in trace] + [end for one in spans for end in (one.start, one.end)]
    last = max(times) if max(times) > min(times) else 1.0
    across = svg.Axis(min(times), last, LEFT, WIDTH - RIGHT)
    floor = min([0.0, *(power for _, power in trace)])
    up = svg.Axis(floor, ceiling if ceiling > 0 else 1.0, HEIGHT - BOTTOM, TOP)
    shades, means = [], []
    for span in spans:
        left, right, y = across(span.start), across(span.end), up(span.mean)
        width = max(right - left, 0.5)
        shades.append(svg.rect(span.kind, left, up.end, width, up.start - up.end, span.title))
        means.append(svg.line("mean", (left, y), (right, y)))
        means.append(svg.label((left + right) / 2, up.end - 9, span.name, "tick", "middle"))
    points = " ".join(f"{across(time):g},{up(power):g}" for time, power in envelope(trace, COLUMNS))
    parts = [
        *shades,
        svg.grid(across, up, lambda second: f"{second:g}", name_power, "seconds", ""),
        # Left of the spans' names, where the grid would put it among them.
        svg.label(LEFT - 8, up.end - 9, "power", "axis-title", "end"),
        svg.element("polyline", "power", points=points),
        *means,
    ]
    return svg.drawing("".join(parts), WIDTH, HEIGHT, title)


def envelope(trace: Sequence[tuple[float, float]], columns: int) -> list[tuple[float, float]]:
    """The lowest and highest point of each of so many equal spans of time, in their order."""
    if len(trace) <= 2 * columns:
        return list(trace)
    start, end = trace[0][0], trace[-1][0]
    buckets: dict[int, list[tuple[float, float]]] = {}
    for point in trace:
        place = min(int((point[0] - start) / (end - start) * columns), columns - 1)
        buckets.setdefault(place, []).append(point)
    kept = []
    for points in buckets.values():
        ends = {min(points, key=lambda one: one[1]), max(points, key=lambda one: one[1])}
        kept += sorted(ends)
    return kept
