"""Logs that power meters save, in the formats that they are published in; one format, one file."""

from __future__ import annotations

from pathlib import Path

from headgate.errors import InputError, MissingFile, why
from headgate.profiling.meters import columns, lpm01a, runner_trace
from headgate.profiling.meters.log import Asked, MeterLog

__all__ = ["Asked", "MeterLog", "read_log"]

_FORMATS = (runner_trace, lpm01a, columns)
"""Each has ``fits(path, data)`` and ``read(path, data, asked)``; the last takes any text."""


def read_log(path: Path, asked: Asked = Asked()) -> MeterLog:  # noqa: B008 (it is frozen)
    """What a meter logged.

    Raises:
        MissingFile: there is no such file.
        InputError: it cannot be read, is of no known format, or lacks what ``asked`` could say.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise MissingFile(f"no meter's log {path}; check the path") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {why(error)}") from error
    chosen = next(one for one in _FORMATS if one.fits(path, data))
    return chosen.read(path, data, asked)
