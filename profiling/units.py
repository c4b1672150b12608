"""Numbers as a report prints them: three digits that count, and a unit that fits."""

from __future__ import annotations

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
    return _scaled(value, (1e6, "s"), (1e3, "ms"), (1.0, "µs"))


def millijoules(value: Any) -> str:
    """An energy in millijoules, as uJ, mJ or J."""
    return _scaled(value, (1e3, "J"), (1.0, "mJ"), (1e-3, "µJ"), zero="0 J")


def milliwatts(value: Any) -> str:
    """A power in milliwatts, as mW or W."""
    return _scaled(value, (1e3, "W"), (1.0, "mW"), zero="0 W")


def energy_delay(value: Any) -> str:
    """An energy times a latency in mJ ms, which is uJ s, as nJ s, that or mJ s."""
    return _scaled(value, (1e3, "mJ s"), (1.0, "µJ s"), (1e-3, "nJ s"), zero="0 mJ s")


def macs(value: Any) -> str:
    """A number of MACs, as k, M or G."""
    if not isinstance(value, NotMeasured) and value < 999.5:
        return f"{value:.0f}"
    return _scaled(value, (1e9, "G"), (1e6, "M"), (1e3, "k"))


instructions = macs


def times(value: Any) -> str:
    """A ratio such as a speed-up."""
    return ABSENT if isinstance(value, NotMeasured) else f"{value:.2f}x"


def percent(value: Any, digits: int = 0) -> str:
    """A share of one."""
    return ABSENT if isinstance(value, NotMeasured) else f"{100 * value:.{digits}f} %"


def _scaled(value: Any, *units: tuple[float, str], zero: str = "") -> str:
    """In the largest unit of which there is at least one, else in the last.

    ``zero`` stands for what would round to 0.000 of that.
    """
    if isinstance(value, NotMeasured):
        return ABSENT
    factor, unit = next((one for one in units if abs(value) >= one[0] * 0.9995), units[-1])
    if zero and abs(value) < 0.0005 * factor:
        return zero
    return f"{three_digits(value / factor)} {unit}"
