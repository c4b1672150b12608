"""The linear layer that predicts, from the means of the input channels, a number per output.

A full one has C_in x C weights, as the papers' have: little beside the nine times as many of a
3x3 convolution, as many as a 1x1 convolution has itself. Convolutions of few taps, and grouped
ones, therefore get one of low rank: two linear layers without an activation between them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headgate.errors import UsageError

# Convolutions with fewer weights for each pair of channels get a predictor of low rank, with a
# tenth of the convolution's weights.
TAPS_OF_FULL_RANK = 9
SHARE_OF_WEIGHTS = 0.1
LEAST_RANK = 2


class Predictor(nn.Linear):
    """Means (N, C_in) -> (N, C): ``bias + means @ Phi.T`` with Phi (C, C_in) = ``weight``."""

    def __init__(self, inputs: int, bias: Tensor, deviation: Tensor) -> None:
        """Starts at the ``bias`` (C,) and a truncated normal of ``deviation`` (C,) or ()."""
        super().__init__(inputs, len(bias), device=bias.device, dtype=bias.dtype)
        with torch.no_grad():
            self.bias.copy_(bias)
            nn.init.trunc_normal_(self.weight)
            self.weight.mul_(deviation.reshape(-1, 1))

    def of_scaled(self, means: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """The prediction for ``means * scale + shift``, both (C_in,), as linear layers alone."""
        weight, bias = self.weight, self.bias
        return F.linear(means, weight * scale, bias + weight @ shift)


class LowRankPredictor(nn.Linear):
    """A predictor with Phi = ``weight`` (C, rank) @ ``reduce`` (rank, C_in)."""

    def __init__(self, inputs: int, rank: int, bias: Tensor, deviation: Tensor) -> None:
        """Starts at the ``bias`` (C,), the entries of Phi with the ``deviation`` (C,) or ()."""
        super().__init__(rank, len(bias), device=bias.device, dtype=bias.dtype)
        self.reduce = nn.Parameter(self.weight.new_empty(rank, inputs))
        with torch.no_grad():
            self.bias.copy_(bias)
            nn.init.trunc_normal_(self.reduce)
            nn.init.trunc_normal_(self.weight)
            # Each entry of the product is a sum of ``rank`` independent terms.
            self.weight.mul_(deviation.reshape(-1, 1) / rank**0.5)

    def forward(self, means: Tensor) -> Tensor:
        return super().forward(F.linear(means, self.reduce))

    def of_scaled(self, means: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """The prediction for ``means * scale + shift``, both (C_in,), as linear layers alone."""
        bias = self.bias + self.weight @ (self.reduce @ shift)
        return F.linear(F.linear(means, self.reduce * scale), self.weight, bias)


def make_predictor(
    conv: nn.Conv1d | nn.Conv2d, rank: int | None, bias: Tensor, deviation: Tensor
) -> Predictor | LowRankPredictor:
    """The predictor of a gate on ``conv``, see :func:`default_rank` for ``rank`` None.

    Raises:
        UsageError: a rank that is not a whole number above 0.
    """
    if rank is not None and (type(rank) is not int or rank < 1):
        raise UsageError(f"predictor_rank = {rank!r}, but must be a whole number above 0, or None")
    if rank is None:
        rank = default_rank(conv)
    inputs, outputs = conv.in_channels, conv.out_channels
    if rank is None or rank * (inputs + outputs) >= inputs * outputs:
        return Predictor(inputs, bias, deviation)
    return LowRankPredictor(inputs, rank, bias, deviation)


def default_rank(conv: nn.Conv1d | nn.Conv2d) -> int | None:
    """The rank by which both layers have a tenth of the weights of ``conv``; None: full rank.

    Full are those of convolutions with 9 taps and more, if these are not grouped.
    """
    inputs, outputs = conv.in_channels, conv.out_channels
    weights = conv.weight.numel()
    if weights >= TAPS_OF_FULL_RANK * inputs * outputs:
        return None
    return max(LEAST_RANK, int(SHARE_OF_WEIGHTS * weights / (inputs + outputs)))
