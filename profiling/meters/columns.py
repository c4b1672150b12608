"""Meters' CSV: columns named with their units, as the agent reads them, and Joulescope's export.

Joulescope's program writes ``# time,NAME.i,NAME.v,NAME.p,NAME.0``: seconds, amperes, volts, watts
and the level of an input, for what its plots show.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headgate.device.agent.errors import SensorError
from headgate.device.agent.sensors.columns import Columns, cells_of, figure, is_header
from headgate.errors import InputError, why
from headgate.profiling.meters.log import Asked, MeterLog, lows, of_power

_JOULESCOPE = re.compile(r"# time(,[^,]+\.[ivprT0-9])+")
_UNITS = {"i": "i_a", "v": "v_v", "p": "p_w"}
_PIN_NAMES = ("pin", "gpi", "gpio", "d7")


def fits(path: Path, data: bytes) -> bool:
    return True


def read(path: Path, data: bytes, asked: Asked) -> MeterLog:
    """An InputError if columns are missing, or lines cannot be read."""
    lines = [line for line in data.decode(errors="replace").splitlines() if line.strip()]
    if len(lines) < 3:
        raise InputError(f"{path} is no meter's log: a header and two lines of samples at least")
    header, meter = lines[0], "CSV"
    if _JOULESCOPE.fullmatch(header):
        header, meter = _named(header), "Joulescope"
    if not is_header(header):
        raise InputError(f"{path} names no columns; a first line such as time_s,power_mw,pin")
    names = [name.lower() for name in cells_of(header)]
    pin = _pin(path, names, asked)
    try:
        columns = Columns.of(header, _wanted(names, asked))
        rows = [columns.read(line) for line in lines[1:]]
        level = _level(lines[1:], pin, columns)
    except (SensorError, ValueError) as error:
        raise InputError(f"{path}: {why(error)}") from error
    if columns.time is None:
        if asked.rate_hz is None:
            raise InputError(f"{path} has no column such as time_s; say --rate-hz")
        times_s = np.arange(len(rows)) / asked.rate_hz
    else:
        times_s = np.array([time_ns for time_ns, _ in rows], float) / 1e9
    times_s, energy_mj = of_power(times_s, np.array([power_mw for _, power_mw in rows]))
    return MeterLog(
        meter=meter,
        source=" x ".join(names[index] for index in columns.power),
        times_s=times_s,
        energy_mj=energy_mj,
        lows_s=lows(times_s, level),
    )


def _named(header: str) -> str:
    """Joulescope's names with units."""
    _, *signals = header.split(",")
    kinds = [signal.rpartition(".")[2] for signal in signals]
    if len(set(kinds)) < len(kinds):
        raise InputError("the log is of several Joulescopes; export one of them")
    return ",".join(["time_s", *(_UNITS.get(kind, f"gpi{kind}") for kind in kinds)])


def _wanted(names: list[str], asked: Asked) -> str | None:
    """Power where Joulescope logged it beside what it is made of."""
    if asked.column is None and {"p_w", "i_a", "v_v"} <= set(names):
        return "p_w"
    return asked.column


def _pin(path: Path, names: list[str], asked: Asked) -> int:
    if asked.pin is not None:
        if asked.pin.lower() not in names:
            raise InputError(f"{path} has no column {asked.pin!r}: {', '.join(names)}")
        return names.index(asked.pin.lower())
    found = [index for index, name in enumerate(names) if name.rstrip("0123456789t") in _PIN_NAMES]
    if len(found) != 1:
        what = "several columns" if found else "no column"
        raise InputError(
            f"{path} has {what} with the level of the board's pin: {', '.join(names)}; name it: "
            "--pin NAME"
        )
    return found[0]


def _level(lines: list[str], pin: int, columns: Columns) -> NDArray[np.bool_]:
    values = np.array([figure(cells_of(one, columns.separator)[pin]) for one in lines])
    # A mean over the time of a sample, or volts.
    return values > (values.min() + values.max()) / 2
