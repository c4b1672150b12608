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

from typing import Literal

import torch
from torch import Tensor

from headgate.errors import UsageError, suggest
from headgate.train.gates.base import GatedConv2d, Variant, start_level
from headgate.train.gates.layer import Conv
from headgate.train.gates.norms import Norm
from headgate.train.gates.operators import keep_top_k
from headgate.train.gates.predictor import make_predictor

Activation = Literal["relu", "identity"]
ACTIVATIONS = ("relu", "identity")

# Keeps the normalisation finite when every saliency is zero.
SMALLEST_MEAN = 1e-6


class FBSConv2d(GatedConv2d):
    """A convolution gated by FBS.

    ::

        s = mean of x over height and width              (N, C_in)
        g = act(s @ Phi.T + rho)                         (N, C)
        k = ceil(C * density); g stays where it is > the (k+1)-th largest of its row, else 0

    rho starts at |gamma| of the batch norm that is replaced and Phi at |gamma| times a truncated
    normal of standard deviation ``predictor_std / sqrt(C_in)``: not zero, because channels of equal
    saliency are all dropped by the strict comparison.

    Args:
        act: activation of the predictor. "relu" as in the paper; "identity" is what the official
            code uses for convolutions that feed a sum without an activation of their own.
        normalise: scale the saliencies of each sample to a constant mean, the mean level at the
            start, against divergence.
        predictor_rank: rank of Phi, by default :func:`default_rank`.

    The other arguments, and the errors, are those of :class:`GatedConv2d`.
    """

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
    ) -> None:
        if act not in ACTIVATIONS:
            raise UsageError(f"unknown predictor activation {act!r}.{suggest(act, ACTIVATIONS)}")
        if normalise and act != "relu":
            raise UsageError(f"normalise=True needs act='relu': {act!r} has no positive mean")
        super().__init__(conv, norm, name, density, variant)
        self.act, self.normalise = act, normalise
        level = start_level(conv, norm)
        deviation = level * predictor_std / self.in_channels**0.5
        self.predictor = make_predictor(conv, predictor_rank, level, deviation)
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
        return saliency if self.active == self.channels else keep_top_k(saliency, self.active)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, act={self.act}, normalise={self.normalise}"
