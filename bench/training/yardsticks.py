"""What others have published for the networks that are trained here."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Yardstick:
    """One published figure; accuracies and ``cut``, the operations saved, in percent.

    Attributes:
        method: as in a recipe, or another one's name.
        drop: points of accuracy lost, also where the accuracies are not known.
        source: key of :func:`sources`.
        known: how the figure was checked, see yardsticks.toml.
    """

    network: str
    dataset: str
    method: str
    cut: float
    source: str
    known: str
    dense: float | None = None
    accuracy: float | None = None
    drop: float = 0.0

    def __post_init__(self) -> None:
        if self.dense is not None and self.accuracy is not None:
            object.__setattr__(self, "drop", self.dense - self.accuracy)


def yardsticks(network: str, dataset: str) -> list[Yardstick]:
    """The figures for one network, in the file's order."""
    found = (Yardstick(**row) for row in _table()["yardstick"])
    return [row for row in found if (row.network, row.dataset) == (network, dataset)]


def sources() -> dict[str, str]:
    """What each source is, by the key that yardsticks name it by."""
    return _table()["sources"]


def _table() -> dict:
    text = Path(__file__).with_name("yardsticks.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
