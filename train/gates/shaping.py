"""Batch shaping: how a gate's logit spreads over images is drawn to a Beta distribution.

Bejnordi, Blankevoort, Welling, "Batch-Shaping for Learning Conditional Channel Gated Networks",
ICLR 2020, arXiv 1907.06627: over a batch the sorted values of one gate are compared with the
distribution function F of the prior, sum over i of (i / (N + 1) - F(x_i))^2, a Cramer-von Mises
distance. A gate that is open or closed for every image is far from a prior with weight at both
ends, whether it wins or loses, so closed channels are taught too.

The paper's prior is Beta(0.6, 0.4), of which 0.6 is the mean. Here it is Beta(d, 1 - d) for a layer
of density d, on sigmoid(z - T): open is what is above a half, and d of it is so on average. The
loss is a mean over images and channels instead of a sum.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor

# The logits within which the distribution function is tabulated; outside it is 0 or 1 to 1e-7 for
# densities from 0.3 to 0.7.
EDGE = 60.0
STEPS = 12_000


def batch_shaping(logits: Tensor, mean: float) -> Tensor:
    """The distance of each column of ``logits`` (N, C) from the prior, mean over all, a scalar.

    Args:
        logits: of the chance to be open, 0 where a channel is on the edge.
        mean: of the prior, in (0, 1).
    """
    images = len(logits)
    wanted = torch.arange(1, images + 1, device=logits.device) / (images + 1)
    found = beta_cdf(logits.sort(dim=0).values, mean)
    return (wanted[:, None] - found).square().mean()


def beta_cdf(logits: Tensor, mean: float) -> Tensor:
    """P(x <= sigmoid(logits)) for x of Beta(mean, 1 - mean)."""
    found: Tensor = _BetaCdf.apply(logits, mean)
    return found


class _BetaCdf(torch.autograd.Function):
    """In logits t the prior's density is smooth, sin(pi d) / pi * exp(d t) / (1 + exp(t))."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, mean: float) -> Tensor:
        ctx.save_for_backward(logits)
        ctx.mean = mean
        table = _table(mean).to(logits)
        place = (logits.clamp(-EDGE, EDGE) + EDGE) * (STEPS / (2 * EDGE))
        below = place.floor().clamp(0, STEPS - 1).long()
        return torch.lerp(table[below], table[below + 1], place - below)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (logits,) = ctx.saved_tensors
        return grad * _density(logits, ctx.mean), None


def _density(t: Tensor, mean: float) -> Tensor:
    return (
        math.sin(math.pi * mean) / math.pi * torch.exp(mean * t - torch.nn.functional.softplus(t))
    )


@functools.cache
def _table(mean: float) -> Tensor:
    """The distribution function at ``STEPS + 1`` logits from -EDGE to EDGE, float64."""
    t = torch.linspace(-EDGE, EDGE, STEPS + 1, dtype=torch.float64)
    return torch.cat([t.new_zeros(1), torch.cumulative_trapezoid(_density(t, mean), t)])
