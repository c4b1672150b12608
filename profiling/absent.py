"""A number that could not be had, and why.

A missing sensor or tool never turns into an estimate: it becomes ``NotMeasured(reason)``, is
printed as ``not measured: reason`` and survives the way through JSON.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from headgate.device.agent.absent import NotMeasured, is_measured

__all__ = ["NotMeasured", "is_measured", "to_json"]


def to_json(value: Any) -> Any:
    """Plain JSON data for dataclasses, arrays and :class:`NotMeasured`, nested at any depth."""
    if isinstance(value, NotMeasured):
        return {"not_measured": value.reason}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: to_json(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return value
