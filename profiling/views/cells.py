"""How the templates write values; one that is missing is a dash that explains itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from markupsafe import Markup, escape

from headgate.device.agent.absent import NotMeasured
from headgate.profiling import units
from headgate.profiling.missing import figure

NONE = "\N{EN DASH}"


def dash(absent: NotMeasured) -> Markup:
    span = Markup('<span class="absent" title="not measured: {}">{}</span>')
    return span.format(absent.reason, NONE)


def _or_dash(text: Callable[..., str]) -> Callable[..., str]:
    """``text`` of a value, nothing for None; of a ratio or a summary it is that of its median."""

    def show(value: Any, *options: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, NotMeasured):
            return dash(value)
        return text(getattr(value, "median", value), *options)

    return show


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def _channels(value: float) -> str:
    return f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"


def _breakable(name: str) -> Markup:
    """Lines may break behind the dots of a layer's name."""
    return Markup(".<wbr>").join(escape(part) for part in name.split("."))


FILTERS: dict[str, Callable[..., Any]] = {
    "breakable": _breakable,
    "channels": _channels,
    "count": _or_dash(lambda value: f"{value:,.0f}"),
    "dash": dash,
    "energy_delay": _or_dash(units.energy_delay),
    "figure": figure,
    "instructions": _or_dash(units.instructions),
    "macs": _or_dash(units.macs),
    "microseconds": _or_dash(units.microseconds),
    "millijoules": _or_dash(units.millijoules),
    "milliwatts": _or_dash(units.milliwatts),
    "nanojoules": _or_dash(lambda value: f"{value:.3g} nJ"),
    "percent": _or_dash(units.percent),
    "signed": _or_dash(_signed),
    "times": _or_dash(units.times),
}


def said(value: Any) -> tuple[str, bool]:
    """A fact of a board as text, and whether it was measured."""
    if isinstance(value, NotMeasured):
        return str(value), False
    return f"{value:g}" if isinstance(value, float) else str(value), True
