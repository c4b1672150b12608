"""Numbers as a report prints them: three digits that count, and a unit that fits."""

from __future__ import annotations


def three_digits(value: float) -> str:
    """``0.112``, ``1.30``, ``14.5``, ``125``, ``1250``."""
    size = abs(value)
    for limit, digits in ((0.9995, 3), (9.995, 2), (99.95, 1)):
        if size < limit:
            return f"{value:.{digits}f}"
    return f"{value:.0f}"


def microseconds(us: float) -> str:
    return _scaled(us, (1e6, "s"), (1e3, "ms"), (1.0, "µs"))


def millijoules(mj: float) -> str:
    return _scaled(mj, (1e3, "J"), (1.0, "mJ"), (1e-3, "µJ"), zero="0 J")


def milliwatts(mw: float) -> str:
    return _scaled(mw, (1e3, "W"), (1.0, "mW"), zero="0 W")


def energy_delay(mj_ms: float) -> str:
    """An energy times a latency; 1 mJ ms is 1 µJ s."""
    return _scaled(mj_ms, (1e3, "mJ s"), (1.0, "µJ s"), (1e-3, "nJ s"), zero="0 mJ s")


def macs(count: float) -> str:
    if count < 999.5:
        return f"{count:.0f}"
    return _scaled(count, (1e9, "G"), (1e6, "M"), (1e3, "k"))


instructions = macs


def times(ratio: float) -> str:
    return f"{ratio:.2f}x"


def percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"


def _scaled(value: float, *units: tuple[float, str], zero: str = "") -> str:
    """In the largest unit of which there is at least one, else in the last.

    ``zero`` stands for what would round to 0.000 of that.
    """
    factor, unit = next((one for one in units if abs(value) >= one[0] * 0.9995), units[-1])
    if zero and abs(value) < 0.0005 * factor:
        return zero
    return f"{three_digits(value / factor)} {unit}"
