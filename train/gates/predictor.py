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
from headgate.train.gates.norms import folded

# Convolutions with fewer weights for each pair of channels get a predictor of low rank, with a
# tenth of the convolution's weights.
TAPS_OF_FULL_RANK = 9
SHARE_OF_WEIGHTS = 0.1
LEAST_RANK = 2


class Predictor(nn.Linear):
    """Means (N, C_in) -> (N, C): ``bias + means @ Phi.T``.

    Phi (C, C_in) is ``weight``, or with a ``rank`` weight (C, rank) @ ``reduce`` (rank, C_in). It
    starts at a truncated normal of the ``deviation`` (C,) or (). With ``standardize`` it predicts
    from (means - mean) / deviation instead, running ones over the training images.
    """

    def __init__(
        self, inputs: int, rank: int | None, bias: Tensor, deviation: Tensor, standardize: bool
    ) -> None:
        super().__init__(rank or inputs, len(bias), device=bias.device, dtype=bias.dtype)
        self.standard = nn.BatchNorm1d(inputs, affine=False).to(bias) if standardize else None
        self.reduce = None if rank is None else nn.Parameter(self.weight.new_empty(rank, inputs))
        with torch.no_grad():
            self.bias.copy_(bias)
            if self.reduce is not None:
                nn.init.trunc_normal_(self.reduce)
            nn.init.trunc_normal_(self.weight)
            # Each entry of a product is a sum of ``rank`` independent terms.
            self.weight.mul_(deviation.reshape(-1, 1) / (rank or 1) ** 0.5)

    def forward(self, means: Tensor) -> Tensor:
        if self.standard is not None:
            if not self.training:
                # Folded, so that a compiled network has linear layers and nothing else.
                return self._of_scaled(means, *folded(self.standard))
            means = self.standard(means)
        return super().forward(means if self.reduce is None else F.linear(means, self.reduce))

    def _of_scaled(self, means: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """The prediction for ``means * scale + shift``, both (C_in,), as linear layers alone."""
        if self.reduce is None:
            return F.linear(means, self.weight * scale, self.bias + self.weight @ shift)
        bias = self.bias + self.weight @ (self.reduce @ shift)
        return F.linear(F.linear(means, self.reduce * scale), self.weight, bias)


def make_predictor(
    conv: nn.Conv1d | nn.Conv2d,
    rank: int | None,
    bias: Tensor,
    deviation: Tensor,
    standardize: bool = False,
) -> Predictor:
    """The predictor of a gate on ``conv``; without a rank it is :func:`default_rank`.

    Raises:
        UsageError: a rank that is not a whole number above 0.
    """
    if rank is not None and (type(rank) is not int or rank < 1):
        raise UsageError(f"predictor_rank = {rank!r}, but must be a whole number above 0, or None")
    if rank is None:
        rank = default_rank(conv)
    inputs, outputs = conv.in_channels, conv.out_channels
    if rank is not None and rank * (inputs + outputs) >= inputs * outputs:
        rank = None
    return Predictor(inputs, rank, bias, deviation, standardize).train(conv.training)


def default_rank(conv: nn.Conv1d | nn.Conv2d) -> int | None:
    """The rank by which both layers have a tenth of the weights of ``conv``; None: full rank."""
    inputs, outputs = conv.in_channels, conv.out_channels
    weights = conv.weight.numel()
    if weights >= TAPS_OF_FULL_RANK * inputs * outputs:
        return None
    return max(LEAST_RANK, int(SHARE_OF_WEIGHTS * weights / (inputs + outputs)))
