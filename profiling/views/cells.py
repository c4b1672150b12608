"""Table cells that explain themselves where their value is missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headgate.device.agent.absent import NotMeasured
from headgate.profiling import units
from headgate.profiling.statistics import Ratio

NONE = "\N{EN DASH}"


def cell(value: Any, text: Callable[[Any], str]) -> dict[str, str]:
    """``text`` and ``reason``, of which one is empty or a dash."""
    if isinstance(value, NotMeasured):
        return {"text": NONE, "reason": value.reason}
    return {"text": text(value), "reason": ""}


def ratio_cell(ratio: Ratio | NotMeasured) -> dict[str, str]:
    """A ratio with its interval below."""
    found = cell(ratio, lambda value: units.times(value.median))
    interval = f"{ratio.low:.2f} to {ratio.high:.2f}" if isinstance(ratio, Ratio) else ""
    return {**found, "interval": interval}


def said(value: Any) -> tuple[str, bool]:
    """A fact of a board as text, and whether it was measured."""
    if isinstance(value, NotMeasured):
        return str(value), False
    if isinstance(value, float):
        return f"{value:g}", True
    return str(value), True
