"""Numbers as a report prints them: three digits that count, and a unit that fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headgate.device.agent.absent import NotMeasured

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
    if isinstance(value, NotMeasured):
        return ABSENT
    for factor, unit in ((1e6, "s"), (1e3, "ms")):
        if value >= factor * 0.9995:
            return f"{three_digits(value / factor)} {unit}"
    return f"{three_digits(value)} µs"


def millijoules(value: Any) -> str:
    """An energy in millijoules, as uJ, mJ or J."""
    return _scaled(value, ((1e3, "J"), (1.0, "mJ"), (1e-3, "µJ")))


def milliwatts(value: Any) -> str:
    """A power in milliwatts, as mW or W."""
    return _scaled(value, ((1e3, "W"), (1.0, "mW")))


def energy_delay(value: Any) -> str:
    """An energy times a latency in mJ ms, which is uJ s, as that or mJ s."""
    return _scaled(value, ((1e3, "mJ s"), (1.0, "µJ s"), (1e-3, "nJ s")))


def macs(value: Any) -> str:
    """A number of MACs, as k, M or G."""
    return _counted(value)


def instructions(value: Any) -> str:
    """A number of instructions, as k, M or G."""
    return _counted(value)


def times(value: Any) -> str:
    """A ratio such as a speed-up."""
    return ABSENT if isinstance(value, NotMeasured) else f"{value:.2f}x"


def percent(value: Any, digits: int = 0) -> str:
    """A share of one."""
    return ABSENT if isinstance(value, NotMeasured) else f"{100 * value:.{digits}f} %"


def _scaled(value: Any, units: Sequence[tuple[float, str]]) -> str:
    """In the largest unit of which there is at least one; in the last if there is none."""
    if isinstance(value, NotMeasured):
        return ABSENT
    if abs(value) < 0.0005 * units[-1][0]:
        return f"0 {units[0][1]}"
    for factor, unit in units:
        if abs(value) >= factor * 0.9995:
            return f"{three_digits(value / factor)} {unit}"
    factor, unit = units[-1]
    return f"{three_digits(value / factor)} {unit}"


def _counted(value: Any) -> str:
    if isinstance(value, NotMeasured):
        return ABSENT
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= factor * 0.9995:
            return f"{three_digits(value / factor)}{unit}"
    return f"{value:.0f}"
