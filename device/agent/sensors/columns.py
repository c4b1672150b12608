"""Lines of CSV from a meter: which columns are time and power, and what their figures mean.

Power is a column whose name ends in ``_uw``, ``_mw`` or ``_w``; else one of volts times one of
amperes. Where several would do, one has to be named: the first may be one rail of many.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import SensorError

DEFAULT_HEADER = ("timestamp_s", "power_mw")
_SEPARATORS = "\t;,"
_TIME = {
    "timestamp_s": 1e9,
    "time_s": 1e9,
    "timestamp_ms": 1e6,
    "time_ms": 1e6,
    "timestamp_us": 1e3,
    "timestamp_ns": 1.0,
}
_POWER = {"_uw": 1e3, "_mw": 1.0, "_w": 1e-3}
_VOLTS = {"_uv": 1e6, "_mv": 1e3, "_v": 1.0}
_AMPERES = {"_ua": 1e6, "_ma": 1e3, "_a": 1.0}
_QUOTED = re.compile(r'"[^"]*"')
_WORD = re.compile("[A-Za-z]{2}")
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+")
_POINTS_THEN_COMMA = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+,\d+")


def separator_of(line: str) -> str:
    """What is between the cells of a line: tabs, else semicolons, else commas."""
    outside = _QUOTED.sub("", line)
    return next((one for one in _SEPARATORS if one in outside), ",")


def cells_of(line: str, separator: str | None = None) -> list[str]:
    """The cells of a line without quotation marks and the white space around them."""
    separator = separator or separator_of(line)
    try:
        (row,) = csv.reader([line], delimiter=separator, skipinitialspace=True)
    except csv.Error:
        row = line.split(separator)
    return [cell.strip() for cell in row]


def figure(cell: str, separator: str = ",") -> float:
    """A number, with a decimal point or a decimal comma; a ValueError if it is none, or may be two.

    Between semicolons a comma is a decimal one. Elsewhere ``1,234`` may be meant either way.
    """
    if "," not in cell:
        return float(cell)
    if "." in cell and _THOUSANDS.fullmatch(cell.partition(".")[0]):
        return float(cell.replace(",", ""))
    if _POINTS_THEN_COMMA.fullmatch(cell):
        cell = cell.replace(".", "")
    if separator != ";" and _THOUSANDS.fullmatch(cell):
        raise ValueError(f"{cell!r} may mean thousands or a fraction; let it write a decimal point")
    if not _DECIMAL_COMMA.fullmatch(cell):
        raise ValueError(f"{cell!r} is no number")
    return float(cell.replace(",", "."))


def is_header(line: str) -> bool:
    """Whether a line names columns instead of filling them."""
    # Whatever its comma means, it is a figure.
    cells = (cell.replace(",", "") for cell in cells_of(line))
    try:
        return not [float(cell) for cell in cells]
    except ValueError:
        return True


def may_name(header: str, line: str) -> bool:
    """Whether a first line may be a header, and is not the rest of a line, or noise."""
    lengths = [len(cells_of(one)) for one in (header, line)]
    return _WORD.search(header) is not None and lengths[0] == lengths[1]


def is_cut_off(header: str) -> bool:
    """Whether a header's first name is a unit only, so that the rest of it came too early."""
    name = cells_of(header)[0].lower()
    return f"_{name}" in {**_POWER, **_VOLTS, **_AMPERES}


@dataclass(frozen=True)
class Columns:
    """Where time and power are, and what makes nanoseconds and milliwatts of them."""

    names: tuple[str, ...]
    separator: str
    time: int | None
    time_factor: float
    power: tuple[int, ...]
    """One column, or the two to be multiplied."""
    divisor: float

    @classmethod
    def of(cls, header: str, wanted: str | None = None) -> Columns:
        """Find them by name.

        ``wanted`` is what ``--column`` says: a column with power, one of several with volts or
        amperes, or one of each with a comma between.
        """
        separator = separator_of(header)
        names = tuple(name.lower() for name in cells_of(header, separator))
        time = next((index for index, name in enumerate(names) if name in _TIME), None)
        factor = 1.0 if time is None else _TIME[names[time]]
        chosen = _chosen(names, wanted)
        power = _with_unit(names, chosen, _POWER)
        if power:
            index, divisor = _one(names, power, "power", chosen)
            return cls(names, separator, time, factor, (index,), divisor)
        volts, amperes = (_with_unit(names, chosen, unit) for unit in (_VOLTS, _AMPERES))
        if volts or amperes:
            # One of the two may go without saying.
            everywhere = range(len(names))
            volts = volts or _with_unit(names, everywhere, _VOLTS)
            amperes = amperes or _with_unit(names, everywhere, _AMPERES)
        if not (volts and amperes):
            raise SensorError(
                f"no column with power among {', '.join(names[index] for index in chosen)}: name "
                "it with its unit, such as power_mw, or voltage_v and current_ma"
            )
        voltage = _one(names, volts, "volts", chosen)
        current = _one(names, amperes, "amperes", chosen)
        places = voltage[0], current[0]
        return cls(names, separator, time, factor, places, voltage[1] * current[1] / 1000)

    @classmethod
    def default(cls, line: str, wanted: str | None = None) -> Columns:
        """Those of a meter that sends figures and no header."""
        separator = separator_of(line)
        count = len(cells_of(line, separator))
        if count > len(DEFAULT_HEADER):
            raise SensorError(
                f"{count} columns and no header: {line[:60]!r}; its first line has to name them, "
                "such as timestamp_s,voltage_v,current_ma"
            )
        return cls.of(separator.join(DEFAULT_HEADER[-count:]), wanted)

    def read(self, line: str) -> tuple[int | None, float]:
        """Nanoseconds of the meter's clock, if it has one, and milliwatts; may raise ValueError."""
        cells = cells_of(line, self.separator)
        if len(cells) != len(self.names):
            fault = f"{line[:60]!r} has {len(cells)} columns, not {len(self.names)}"
            hint = "; with decimal commas, separate them by semicolons"
            raise ValueError(fault + hint if self.separator == "," else fault)
        power_mw = 1.0
        for index in self.power:
            power_mw *= figure(cells[index], self.separator)
        if not math.isfinite(power_mw):
            raise ValueError(f"{line[:60]!r} has no number for power")
        time_ns = None
        if self.time is not None:
            time_ns = round(figure(cells[self.time], self.separator) * self.time_factor)
        return time_ns, power_mw / self.divisor


def _chosen(names: tuple[str, ...], wanted: str | None) -> list[int]:
    """Places of the columns that are wanted; of all if that is not said."""
    if wanted is None:
        return list(range(len(names)))
    places = []
    for name in (part.strip().lower() for part in wanted.split(",")):
        if name not in names:
            raise SensorError(f"no column {name!r} in the meter's header: {', '.join(names)}")
        if names.count(name) > 1:
            raise SensorError(f"several columns are called {name!r}; give them names of their own")
        places.append(names.index(name))
    return places


def _with_unit(
    names: tuple[str, ...], places: Iterable[int], units: dict[str, float]
) -> list[tuple[int, float]]:
    """The columns with such a unit, and its divisor."""
    return [
        (index, divisor)
        for index in places
        for unit, divisor in units.items()
        if names[index].endswith(unit) and names[index] not in _TIME
    ]


def _one(
    names: tuple[str, ...], found: list[tuple[int, float]], what: str, chosen: list[int]
) -> tuple[int, float]:
    if len(found) > 1:
        several = [index for index, _ in found]
        said = [] if len(chosen) == len(names) else [one for one in chosen if one not in several]
        raise SensorError(
            f"several columns with {what}: {', '.join(names[index] for index in several)}; name "
            "the one of the whole board, such as --column "
            + ",".join(names[index] for index in (*said, several[0]))
        )
    return found[0]
