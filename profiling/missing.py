"""What follows from values that may not have been measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from headgate.device.agent.absent import NotMeasured

Value = TypeVar("Value")


def derive(function: Callable[..., Value], *values: Any) -> Value | NotMeasured:
    """``function`` of the values; the first that was not measured, where one was not."""
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
