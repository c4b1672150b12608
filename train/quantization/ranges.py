"""What range a tensor has, as seen on real images."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

BINS = 4096
"""Of the histogram of magnitudes."""
_LEAST, _MOST = -120, 127
"""Powers of two within which magnitudes are told apart."""
_SMALLEST = 1e-30
"""What is below is zero: one over its scale would not be a float32."""


@dataclass
class Range:
    """What has been seen of one tensor."""

    low: float = math.inf
    high: float = -math.inf
    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS))
    """Numbers by magnitude, in equal steps up to :attr:`limit`."""
    images: int = 0
    """How many of them were seen."""

    @property
    def largest(self) -> float:
        return max(abs(self.low), abs(self.high)) if self.low <= self.high else 0.0

    @property
    def limit(self) -> float:
        """The power of two that no magnitude exceeds."""
        return 2.0 ** _exponent(self.largest)

    def add(self, numbers: Tensor) -> None:
        """Takes the finite numbers (N, ...) of some images in.

        Raises:
            ValueError: one is NaN or infinite.
        """
        if not numbers.numel():
            return
        low, high = (float(bound) for bound in torch.aminmax(numbers.detach()))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("NaN or infinite")
        self._widen(low, high)
        # torch.histc counts the same in threads that wait for each other: beside a training that
        # takes a hundred times as long.
        steps = (numbers.detach().abs().float() / self.limit * BINS).int().clamp_(max=BINS - 1)
        self.counts += torch.bincount(steps.reshape(-1), minlength=BINS).cpu().numpy()
        self.images += len(numbers) if numbers.ndim else 1

    def join(self, other: Range) -> Range:
        """The range of two tensors that share a scale."""
        images = max(self.images, other.images)
        joined = Range(self.low, self.high, self.counts.copy(), images)
        joined._widen(other.low, other.high)
        joined.counts += _merged(other, joined.limit)
        return joined

    def clipped(self, levels: int) -> float:
        """The magnitude that the greatest code stands for: it has the least squared error.

        Other images exceed what few have shown, so there is room for half as much again where one
        was seen, and less the more were. 0 for a tensor of zeros.
        """
        if self.largest < _SMALLEST:
            return 0.0
        centres = (np.arange(BINS) + 0.5) * (self.limit / BINS)
        best = (np.inf, self.largest)
        for share in np.linspace(1.0, 0.3, 71):
            limit = share * self.largest
            step = limit / levels
            kept = np.minimum(np.rint(centres / step), levels) * step
            error = float((self.counts * (centres - kept) ** 2).sum())
            if error < best[0]:
                best = (error, limit)
        return best[1] * (1 + 0.5 / self.images if self.images else 1.0)

    def _widen(self, low: float, high: float) -> None:
        wider = Range(min(self.low, low), max(self.high, high))
        self.counts = _merged(self, wider.limit)
        self.low, self.high = wider.low, wider.high


def _exponent(largest: float) -> int:
    """The least power of two at or above ``largest``."""
    mantissa, exponent = math.frexp(largest)
    return min(max(exponent - (mantissa == 0.5), _LEAST), _MOST)


def _merged(own: Range, limit: float) -> np.ndarray:
    """The counts of ``own`` in steps up to ``limit``, a power of two that is not below its own."""
    times = int(limit / own.limit) if own.limit < limit else 1
    if times == 1:
        return own.counts
    counts = np.zeros(BINS)
    parts = own.counts.reshape(-1, times).sum(axis=1) if times <= BINS else own.counts.sum()[None]
    counts[: len(parts)] = parts
    return counts
