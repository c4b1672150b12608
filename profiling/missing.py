"""What follows from values that may not have been measured."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, TypeVar

from headgate.device.agent.absent import NotMeasured

Value = TypeVar("Value")


def derive(function: Callable[..., Value], *values: Any) -> Value | NotMeasured:
    """``function`` of the values; the first that was not measured, where one was not."""
    for value in values:
        if isinstance(value, NotMeasured):
            return value
    return function(*values)


def figure(measured: Any, name: str) -> Any:
    """An attribute of something; why that was not measured, where it was not."""
    return derive(attrgetter(name), measured)
