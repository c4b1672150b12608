"""Elements of SVG, coloured by the page's CSS classes, and axes with ticks at round numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

MARGIN = 0.08  # of the span of the data, on either side


@dataclass(frozen=True)
class Axis:
    """Maps ``low`` to the pixel ``start``, ``high`` to ``end``; pixels may fall as values rise."""

    low: float
    high: float
    start: float
    end: float
    whole: bool = False
    """Whether values are whole numbers, and so are ticks."""

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)

    def ticks(self, count: int = 6) -> list[float]:
        """At most about ``count`` multiples of 1, 2, 2.5 or 5 times a power of ten.

        Where values are whole numbers, of 1, 2 or 5 times one that is whole.
        """
        rough = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        factors = [1.0, 2.0, 2.5, 5.0, 10.0]
        if self.whole:
            power, factors = max(power, 1.0), [1.0, 2.0, 5.0, 10.0]
        step = next(power * one for one in factors if power * one >= rough * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]


def axis_around(values: Sequence[float], start: float, end: float) -> Axis:
    """An axis with a margin around the values; one value gets some room on either side."""
    low, high = min(values), max(values)
    margin = MARGIN * (high - low) or abs(high) * MARGIN or 1.0
    return Axis(low - margin, high + margin, start, end)


def element(
    tag: str, kind: str = "", inner: str = "", /, *, title: str = "", **attributes: float | str
) -> str:
    """One element of a CSS class with a tooltip; ``inner`` is SVG, everything else is escaped.

    Numbers get three decimals, and names of attributes hyphens for underscores.
    """
    texts = {"class": kind} if kind else {}
    for name, value in attributes.items():
        text = value if isinstance(value, str) else f"{round(float(value), 3):g}"
        texts[name.replace("_", "-")] = text
    written = "".join(f' {name}="{escape(text)}"' for name, text in texts.items())
    content = (f"<title>{escape(title)}</title>" if title else "") + inner
    return f"<{tag}{written}>{content}</{tag}>" if content else f"<{tag}{written}/>"


def drawing(content: str, width: float, height: float, title: str) -> Markup:
    """An SVG that keeps its proportions; ``title`` is its text alternative."""
    box = f"0 0 {width:g} {height:g}"
    return Markup(
        element("svg", "plot", content, title=title, viewBox=box, role="img", aria_label=title)
    )


def rect(
    kind: str, x: float, y: float, width: float, height: float, title: str = "", **more: float
) -> str:
    """A rectangle; (x, y) is its upper left corner."""
    return element("rect", kind, title=title, x=x, y=y, width=width, height=height, **more)


def line(kind: str, start: tuple[float, float], end: tuple[float, float]) -> str:
    return element("line", kind, x1=start[0], y1=start[1], x2=end[0], y2=end[1])


def label(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    """One line of text; ``y`` is its middle."""
    return element(
        "text", kind, escape(words), x=x, y=y, text_anchor=anchor, dominant_baseline="central"
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
    for tick in up.ticks():
        y = up(tick)
        parts.append(line("grid", (across.start, y), (across.end, y)))
        parts.append(label(across.start - 8, y, name_up(tick), "tick", "end"))
    for tick in across.ticks():
        x = across(tick)
        parts.append(line("grid", (x, up.start), (x, up.end)))
        parts.append(label(x, up.start + 14, name_across(tick), "tick", "middle"))
    middle = (across.start + across.end) / 2
    parts.append(label(middle, up.start + 34, title_across, "axis-title", "middle"))
    parts.append(label(across.start, up.end - 14, title_up, "axis-title"))
    return "".join(parts)
