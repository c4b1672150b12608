"""Numbers as a report prints them: three digits that count, and a unit that fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ABSENT = "not measured"


def three_digits(value: float) -> str:
    """``0.112``, ``1.30``, ``14.5``, ``125``, ``1250``."""
    size = abs(value)
    for limit, digits in ((0.9995, 3), (9.995, 2), (99.95, 1)):
        if size < limit:
            return f"{value:.{digits}f}"
    return f"{value:.0f}"


def microseconds(value: Any) -> str:
    """A duration in microseconds, as us, ms or s."""
    if isinstance(value, Mapping):
        return ABSENT
    for factor, unit in ((1e6, "s"), (1e3, "ms")):
        if value >= factor * 0.9995:
            return f"{three_digits(value / factor)} {unit}"
    return f"{three_digits(value)} µs"


def macs(value: Any) -> str:
    """A number of MACs, as k, M or G."""
    return _counted(value)


def instructions(value: Any) -> str:
    """A number of instructions, as k, M or G."""
    return _counted(value)


def times(value: Any) -> str:
    """A ratio such as a speed-up."""
    return ABSENT if isinstance(value, Mapping) else f"{value:.2f}x"


def percent(value: Any, digits: int = 0) -> str:
    """A share of one."""
    return ABSENT if isinstance(value, Mapping) else f"{100 * value:.{digits}f} %"


def _counted(value: Any) -> str:
    if isinstance(value, Mapping):
        return ABSENT
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= factor * 0.9995:
            return f"{three_digits(value / factor)}{unit}"
    return f"{value:.0f}"
