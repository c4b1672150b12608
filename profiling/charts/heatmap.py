"""A table of shares as coloured cells that also say their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from headgate.profiling.charts import svg
from headgate.profiling.charts.labels import CHARACTER

ROW = 24
CELL = 58
TOP = 26
DARK = 0.62  # shares from here on need the other ink


@dataclass(frozen=True)
class Cell:
    """A share, 0..1, and its tooltip."""

    share: float
    title: str


def heat_map(
    rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[Cell | None]], title: str
) -> Markup:
    """Rows of cells under column names, each with its percentage; None is no share."""
    left = 10 + CHARACTER * max((len(name) for name in rows), default=0)
    wide = max(CELL, *(12 + CHARACTER * len(name) for name in columns))
    parts = [
        svg.label(left + (index + 0.5) * wide, TOP / 2, name, "tick", "middle")
        for index, name in enumerate(columns)
    ]
    for index, (name, line) in enumerate(zip(rows, cells, strict=True)):
        y = TOP + index * ROW
        parts.append(svg.label(left - 10, y + ROW / 2, name, "tick", "end"))
        for column, cell in enumerate(line):
            parts.append(_cell(cell, left + column * wide, y, wide))
    width = left + wide * len(columns)
    drawn = svg.drawing("".join(parts), width, TOP + ROW * len(rows), title)
    # At its own size: few columns must not be blown up to the page's width.
    return Markup(f'<div style="max-width: {width:g}px">') + drawn + Markup("</div>")


def _cell(cell: Cell | None, x: float, y: float, wide: float) -> str:
    box = x + 1, y + 1, wide - 2, ROW - 2
    if cell is None:
        return svg.rect("blank", *box, title="not gated")
    share = min(max(cell.share, 0.0), 1.0)
    kind = "share strong" if share >= DARK else "share"
    number = svg.label(x + wide / 2, y + ROW / 2, f"{100 * share:.0f}", kind, "middle")
    shade = svg.rect("heat", *box, fill_opacity=share)
    return svg.element("g", "", shade + number, title=cell.title)
