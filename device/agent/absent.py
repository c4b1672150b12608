"""A number that could not be had, and why: never an estimate in its place."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class NotMeasured:
    """Stands where a value would be, in JSON as ``{"not_measured": reason}``."""

    reason: str = field(metadata={"key": "not_measured"})

    def __str__(self) -> str:
        return f"not measured: {self.reason}"


NOT_LOOKED = NotMeasured("not looked at")


def is_measured(value: object) -> bool:
    """False for :class:`NotMeasured`, also as JSON."""
    if isinstance(value, Mapping):
        return set(value) != {"not_measured"}
    return not isinstance(value, NotMeasured)


def to_json(value: Any) -> Any:
    """Plain JSON data for dataclasses, arrays and :class:`NotMeasured`, nested at any depth."""
    if isinstance(value, NotMeasured):
        return {"not_measured": value.reason}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            one.metadata.get("key", one.name): to_json(getattr(value, one.name))
            for one in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    # NumPy's arrays and numbers, without NumPy.
    return value.tolist() if hasattr(value, "tolist") else value
