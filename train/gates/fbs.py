"""FBS, feature boosting and suppression: a linear prediction of saliency, the k largest stay.

Gao, Zhao, Dudziak, Mullins, Xu, "Dynamic Channel Pruning: Feature Boosting and Suppression",
ICLR 2019, arXiv 1810.05331. The layout is that of the official code (deep-fry/mayo,
mayo/net/tf/gate): batch norm without factor and shift, the gate in the factor's place, the shift
outside the product but masked, a strict comparison with the (k+1)-th largest saliency, and no
gradient through the mask. ``variant="paper"`` has the shift inside the product.

Different on purpose: the code sets the predictor's bias to 1 and forgets a pretrained network's
factors; here it starts from them. And with all channels active the code omits the mask, so a
channel with the saliency 0 would still give its shift; here zero always means skipped.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from headgate.errors import UsageError, suggest
from headgate.train.gates.base import Variant, start_level
from headgate.train.gates.layer import Conv
from headgate.train.gates.norms import Norm
from headgate.train.gates.predictor import make_predictor
from headgate.train.gates.ranked import NoisyStages, RankedConv2d
from headgate.train.procedure import Procedure

Activation = Literal["relu", "identity"]
ACTIVATIONS = ("relu", "identity")

# Keeps the normalisation finite when every saliency is zero.
SMALLEST_MEAN = 1e-6


class FBSConv2d(RankedConv2d):
    """A convolution gated by FBS.

    ::

        s = mean of x over height and width              (N, C_in)
        g = act(s @ Phi.T + rho)                         (N, C)
        k = ceil(C * density); g stays where it is > the (k+1)-th largest of its row, else 0

    rho starts at |gamma| of the batch norm that is replaced and Phi at |gamma| times a truncated
    normal of standard deviation ``predictor_std / sqrt(C_in)``: not zero, because channels of equal
    saliency are all dropped by the strict comparison.

    |gamma| differs ten times more between channels than a prediction does between images, so the
    same channels may win for all of them. ``relative`` and ``standardize`` are ours, against that.

    Args:
        act: activation of the predictor. "relu" as in the paper; "identity" is what the official
            code uses for convolutions that feed a sum without an activation of their own.
        normalise: scale the saliencies of each sample to a constant mean, the mean level at the
            start, against divergence.
        predictor_rank: rank of Phi, by default :func:`default_rank`.
        relative: how much of the level stays out of the ranking, 0 to 1: g is predicted in units of
            |gamma| ** relative, a trained factor ``scale`` behind the choice. At 1 all channels
            start equal and only the image ranks them.
        standardize: predict from (s - mean) / deviation, running ones over the training images.
        straight_through: see :class:`RankedConv2d`.

    The other arguments, and the errors, are those of :class:`GatedConv2d`.
    """

    procedure: ClassVar[type[Procedure] | None] = NoisyStages

    remedy = "lower the learning rate, clip the gradient, or gate with normalise=True"

    level: Tensor

    def __init__(
        self,
        conv: Conv,
        norm: Norm | None,
        name: str,
        density: float,
        variant: Variant = "official",
        act: Activation = "relu",
        normalise: bool = False,
        predictor_std: float = 0.1,
        predictor_rank: int | None = None,
        relative: float = 0.0,
        standardize: bool = False,
        straight_through: bool = False,
    ) -> None:
        if not 0 <= relative <= 1:
            raise UsageError(f"relative = {relative!r}, but must be a number from 0 to 1")
        if act not in ACTIVATIONS:
            raise UsageError(f"unknown predictor activation {act!r}.{suggest(act, ACTIVATIONS)}")
        if normalise and act != "relu":
            raise UsageError(f"normalise=True needs act='relu': {act!r} has no positive mean")
        super().__init__(conv, norm, name, density, variant)
        self.act, self.normalise = act, normalise
        self.relative, self.straight_through = relative, straight_through
        whole = start_level(conv, norm)
        self.scale = nn.Parameter(whole**relative) if relative else None
        level = whole ** (1 - relative)
        deviation = level * predictor_std / self.in_channels**0.5
        self.predictor = make_predictor(conv, predictor_rank, level, deviation, standardize)
        if normalise:
            self.register_buffer("level", level.mean())

    def saliency(self, x: Tensor) -> Tensor:
        g = self.predictor(torch.mean(x, (2, 3)))
        if self.act == "relu":
            g = torch.relu(g)
        if self.normalise:
            g = g * (self.level / (g.mean(1, keepdim=True) + SMALLEST_MEAN))
        return g

    def select(self, saliency: Tensor) -> Tensor:
        return self.weigh(self.keep(saliency))

    def weigh(self, saliency: Tensor) -> Tensor:
        return saliency if self.scale is None else saliency * self.scale

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, act={self.act}, normalise={self.normalise}, "
            f"relative={self.relative:g}, straight_through={self.straight_through}"
        )
