"""What range each tensor of a network has: PyTorch runs it on real images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from headgate.compile.front.graph import Graph, Value
from headgate.errors import InputError

BINS = 2048
"""Of the histogram of magnitudes."""


@dataclass
class Range:
    """What has been seen of one tensor."""

    low: float = np.inf
    high: float = -np.inf
    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS))
    """Numbers by magnitude, in equal steps up to the largest."""

    @property
    def largest(self) -> float:
        return max(abs(self.low), abs(self.high))

    def join(self, other: Range) -> Range:
        """The range of two tensors that share a scale."""
        largest = max(self.largest, other.largest)
        return Range(
            min(self.low, other.low),
            max(self.high, other.high),
            _stretched(self, largest) + _stretched(other, largest),
        )

    def clipped(self, levels: int) -> float:
        """The magnitude that the greatest code stands for: it has the least squared error."""
        if self.largest == 0:
            return 0.0
        centres = (np.arange(BINS) + 0.5) * (self.largest / BINS)
        best = (np.inf, self.largest)
        for share in np.linspace(1.0, 0.3, 71):
            limit = share * self.largest
            step = limit / levels
            kept = np.minimum(np.rint(centres / step), levels) * step
            error = float((self.counts * (centres - kept) ** 2).sum())
            if error < best[0]:
                best = (error, limit)
        return best[1]


def _stretched(own: Range, largest: float) -> np.ndarray:
    """The counts of ``own`` in steps up to ``largest``."""
    if largest == 0 or own.largest in (0, largest):
        return own.counts
    places = ((np.arange(BINS) + 0.5) * (own.largest / largest)).astype(int)
    return np.bincount(places, own.counts, BINS)


def find_ranges(graph: Graph, samples: list[np.ndarray]) -> dict[Value, Range]:
    """The range of every value that stands for a node of PyTorch's graph.

    Args:
        graph: after fusing; its ``module`` is what it was read from.
        samples: calibration inputs (N, ...) float32, an array for each input.

    Raises:
        InputError: the network makes NaN or infinity of a sample.
    """
    wanted = {node: value for value, node in graph.origins.items()}
    runner = _Recorder(graph.module, set(wanted))
    for row in _rows(samples):
        runner.run(*row)
    runner.counting = True
    for row in _rows(samples):
        runner.run(*row)
    return {value: runner.ranges[node] for node, value in wanted.items() if node in runner.ranges}


def _rows(samples: list[np.ndarray]) -> Iterator[list[Tensor]]:
    for index in range(len(samples[0])):
        yield [torch.from_numpy(array[index : index + 1].copy()) for array in samples]


class _Recorder(fx.Interpreter):
    """Notes the least and the largest number of each node, then how numbers are distributed."""

    def __init__(self, module: fx.GraphModule, wanted: set[fx.Node]) -> None:
        super().__init__(module)
        self._wanted = wanted
        self.ranges: dict[fx.Node, Range] = {}
        self.counting = False

    @torch.no_grad()
    def run(self, *inputs: Tensor) -> Any:  # type: ignore[override]
        return super().run(*inputs)

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n in self._wanted and isinstance(result, Tensor) and result.is_floating_point():
            found = self.ranges.setdefault(n, Range())
            if self.counting:
                self._count(found, result)
            elif result.numel():
                low, high = (float(bound) for bound in torch.aminmax(result))
                if not np.isfinite((low, high)).all():
                    raise InputError(
                        f"A calibration image makes {n.name!r} of the network NaN or infinite; "
                        "give others, or look at the network's weights."
                    )
                found.low, found.high = min(found.low, low), max(found.high, high)
        return result

    @staticmethod
    def _count(found: Range, result: Tensor) -> None:
        if found.largest > 0:
            seen = torch.histc(result.abs().float(), BINS, 0.0, found.largest)
            found.counts += seen.double().numpy()
