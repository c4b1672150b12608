"""Channel gates that keep the k most salient channels of each input, and how their choice trains.

A strict choice teaches only its winners: a closed channel gets no gradient, so it cannot come to
be chosen. Two ways out, both off by default. Gradients pass the choice as if it were not there
(straight through; Bengio, Leonard, Courville, "Estimating or Propagating Gradients Through
Stochastic Neurons", 2013, arXiv 1308.3432). Or noise on the ranking opens losers now and then: with
Gumbel noise on log saliencies the k largest are k draws without replacement (Kool, van Hoof,
Welling, "Stochastic Beams and Where to Find Them", ICML 2019, arXiv 1903.06059), and the noise
fades, as the temperature of Gumbel gates does elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from headgate.device.schema import NOT_NEGATIVE
from headgate.train.gates.base import GatedConv2d
from headgate.train.gates.layer import gates
from headgate.train.gates.operators import keep_top_k
from headgate.train.gates.stages import DensityStages
from headgate.train.procedure import Moment

# Keeps a uniform number off 0 and 1, whose Gumbel numbers are infinite.
EDGE = 1e-6


class RankedConv2d(GatedConv2d):
    """A gated convolution of which the ``active`` channels of largest saliency are computed.

    Attributes:
        noise: in training the ranking is by log saliency plus Gumbel numbers of this scale.
        straight_through: closed channels get the gradient too that their saliency would have had
            if they had been open.
    """

    noise = 0.0
    straight_through = False

    def keep(self, saliency: Tensor) -> Tensor:
        """Saliencies (N, C), none below 0 under noise, with zeros for those not kept."""
        if self.active == self.channels:
            return saliency
        if not self.training:
            return keep_top_k(saliency, self.active)
        kept = keep_top_k(saliency, self.active)
        if self.noise:
            uniform = torch.rand_like(saliency).clamp(EDGE, 1 - EDGE)
            # exp(noise * Gumbel) of log saliencies is a factor on saliencies.
            ranking = saliency.detach() * (-uniform.log()).pow(-self.noise)
            chosen = keep_top_k(ranking, self.active) != 0
            kept = torch.where(chosen, saliency, torch.zeros_like(saliency))
        return saliency + (kept - saliency).detach() if self.straight_through else kept


@dataclass(frozen=True)
class FadingNoise(DensityStages):
    """Densities in stages, and a noise on the ranking that falls to nothing in a straight line.

    Args:
        noise: scale of the Gumbel numbers in the first epoch.
        noise_epochs: from this epoch on there is none.
    """

    noise: Annotated[float, NOT_NEGATIVE] = 0.0
    noise_epochs: Annotated[float, NOT_NEGATIVE] = 0.0

    def configure(self, moment: Moment) -> None:
        super().configure(moment)
        left = 1 - moment.epoch / self.noise_epochs if self.noise_epochs else 0.0
        for layer in gates(moment.module).values():
            assert isinstance(layer, RankedConv2d)
            layer.noise = self.noise * max(0.0, left)
