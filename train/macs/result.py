"""The result of a count of multiply-accumulates: totals, by module, by operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

RULES = (
    "One multiply-accumulate (MAC) is one multiplication with its addition, per image. Counted: "
    "convolutions, linear layers and matrix products, padding taps included; not counted: bias, "
    "batch norm, activations, pooling, sums. Executed: (active inputs) x (active outputs) of each "
    "layer, over connected pairs where it is grouped; a sum is active where any operand is, "
    "pooling and ReLU keep a mask, batch norm and unknown operators make all channels active. "
    "A gate costs its predictor, inputs x outputs, or rank x (inputs + outputs) where it has a "
    "low rank, all counted as active; scaling the active outputs by the gate is not counted. A "
    "depthwise convolution that follows a gate computes the outputs that the gate leaves active. "
    "A pixel-gated convolution computes its base path, 1/p of the inputs, for every output, and "
    "the rest {where}; that path is all its gate costs."
)
BY_PIXEL = "where the gate is on, counted per pixel and channel"
BY_TILE = (
    "in tiles of {} channels by {} pixels, for all outputs of a tile as soon as the gate is on for "
    "one of them"
)


def convention(pixel_tile: tuple[int, int] | None = None) -> str:
    """The rules of a count, with pixel gates counted one by one or in a kernel's tiles."""
    where = BY_PIXEL if pixel_tile is None else BY_TILE.format(*pixel_tile)
    return RULES.format(where=where)


CONVENTION = convention()


@dataclass(frozen=True)
class Row:
    """One operator of the graph: its module, MACs per image, dense and (M,) executed."""

    module: str
    operator: str
    dense: int
    executed: Tensor


@dataclass(frozen=True)
class Macs:
    """MACs per image: of the network without gates, and executed on average."""

    dense: int
    executed: float


@dataclass(frozen=True)
class MacCount:
    """MACs per image.

    ``rows`` are the counted operators in order of execution. The operator "gate" stands for the
    predictors: their cost is part of ``executed`` and not of ``dense``.
    """

    rows: tuple[Row, ...]
    unknown: dict[str, int]
    convention: str = CONVENTION

    @property
    def dense(self) -> int:
        """MACs of the network without gates."""
        return sum(row.dense for row in self.rows)

    @property
    def executed_per_image(self) -> Tensor:
        """MACs executed for each image, gates included: (M,), int64."""
        return torch.stack([row.executed for row in self.rows]).sum(0)

    @property
    def executed(self) -> float:
        """MACs executed, gates included, averaged over the images."""
        return self.executed_per_image.double().mean().item()

    @property
    def gate(self) -> int:
        """MACs of the gates' predictors."""
        return sum(int(row.executed[0]) for row in self.rows if row.operator == "gate")

    @property
    def by_module(self) -> dict[str, Macs]:
        """MACs by module path; a predictor is counted with the layer it decides for."""
        return self._grouped(lambda row: row.module)

    @property
    def by_operator(self) -> dict[str, Macs]:
        """MACs by operator: "conv2d", "gated_conv2d", "linear", "gate", ..."""
        return self._grouped(lambda row: row.operator)

    def unsupported(self) -> dict[str, int]:
        """Operators without a handler, and how often each was met; they count as no MACs."""
        return dict(self.unknown)

    def _grouped(self, key: Callable[[Row], str]) -> dict[str, Macs]:
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(key(row), []).append(row)
        return {
            name: Macs(
                sum(row.dense for row in rows),
                torch.stack([row.executed for row in rows]).sum(0).double().mean().item(),
            )
            for name, rows in groups.items()
        }
