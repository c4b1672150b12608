"""What all drawings with axes share: the outer element, text, grid lines."""

from __future__ import annotations

from collections.abc import Callable

from markupsafe import Markup, escape

from headgate.profiling.charts.axis import Axis


def drawing(content: str, width: float, height: float, title: str) -> Markup:
    """An SVG that keeps its proportions; ``title`` is its text alternative."""
    text = escape(title)
    return Markup(
        f'<svg class="plot" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{text}">'
        f"<title>{text}</title>{content}</svg>"
    )


def label(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    """One line of text; ``y`` is its middle."""
    return (
        f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}" '
        f'dominant-baseline="central">{escape(words)}</text>'
    )


def grid(
    across: Axis,
    up: Axis,
    name_across: Callable[[float], str],
    name_up: Callable[[float], str],
    title_across: str,
    title_up: str,
) -> str:
    """Lines and numbers at the ticks of both axes, and what the axes are."""
    parts = []
    ends = f'x1="{across.start}" x2="{across.end}"'
    for tick in up.ticks():
        y = up(tick)
        parts.append(f'<line class="grid" {ends} y1="{y}" y2="{y}"/>')
        parts.append(label(across.start - 8, y, name_up(tick), "tick", "end"))
    for tick in across.ticks():
        x = across(tick)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{up.start}" y2="{up.end}"/>')
        parts.append(label(x, up.start + 14, name_across(tick), "tick", "middle"))
    middle = (across.start + across.end) / 2
    parts.append(label(middle, up.start + 34, title_across, "axis-title", "middle"))
    parts.append(label(across.start, up.end - 14, title_up, "axis-title"))
    return "".join(parts)
