"""What follows from values that may not have been measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from headgate.device.agent.absent import NotMeasured, to_json
from headgate.errors import ToolMissing

Value = TypeVar("Value")


class Result:
    """A data class of what was found out."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; a value that is missing is ``{"not_measured": reason}``."""
        return dict(to_json(self))


def unless_missing(
    function: Callable[..., Value], *given: Any, **options: Any
) -> Value | NotMeasured:
    """What the function finds; not measured where a tool for it is missing."""
    try:
        return function(*given, **options)
    except ToolMissing as missing:
        return NotMeasured(str(missing))


def derive(function: Callable[..., Value], *values: Any) -> Value | NotMeasured:
    """``function`` of the values; the first that was not measured, if there is one."""
    for value in values:
        if isinstance(value, NotMeasured):
            return value
    return function(*values)


def figure(measured: Any, path: str) -> Any:
    """What ``energy.idle.rails_mw`` leads to; None, or not measured, as soon as that is met."""
    for name in path.split("."):
        if measured is None or isinstance(measured, NotMeasured):
            break
        measured = measured[name] if isinstance(measured, Mapping) else getattr(measured, name)
    return measured
