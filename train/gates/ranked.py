"""Channel gates that keep the k most salient channels of each input, and how their choice trains.

A strict choice teaches only its winners: a closed channel gets no gradient, so it cannot come to
be chosen. Two ways out, both off by default. Gradients are those of the layer with every channel
open (straight through; Bengio, Leonard, Courville, "Estimating or Propagating Gradients Through
Stochastic Neurons", 2013, arXiv 1308.3432). Or noise on the ranking opens losers now and then: with
Gumbel noise on log saliencies the k largest are k draws without replacement (Kool, van Hoof,
Welling, "Stochastic Beams and Where to Find Them", ICML 2019, arXiv 1903.06059), and the noise
fades, as the temperature of Gumbel gates does elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from headgate.train.gates.base import GatedConv2d
from headgate.train.gates.layer import gates
from headgate.train.gates.noise import FadingNoise
from headgate.train.gates.operators import keep_top_k
from headgate.train.gates.relaxed import EDGE, open_through
from headgate.train.gates.stages import DensityStages
from headgate.train.procedure import Moment


class RankedConv2d(GatedConv2d):
    """A gated convolution of which the ``active`` channels of largest saliency are computed.

    Attributes:
        noise: in training the ranking is by log saliency plus Gumbel numbers of this scale.
        straight_through: in training gradients are those with every channel open, see
            :func:`open_through`.
    """

    noise = 0.0
    _ungated: Tensor | None = None  # all saliencies, when gradients go straight through

    def keep(self, saliency: Tensor) -> Tensor:
        """Saliencies (N, C), none below 0 under noise, with zeros for those not kept."""
        self._ungated = None
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
        if not self.straight_through:
            return kept
        self._ungated = saliency
        return saliency + (kept - saliency).detach()

    def _weighed(self, u: Tensor, gate: Tensor) -> Tensor:
        if self._ungated is None or self.opened is not None:
            return super()._weighed(u, gate)
        whole: Tensor = super()._weighed(u, self.weigh(self._ungated))
        return open_through(whole, gate.detach() != 0)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_ungated": None}


@dataclass(frozen=True)
class NoisyStages(DensityStages, FadingNoise):
    """Densities in stages, and Gumbel numbers on the ranking that fade."""

    def configure(self, moment: Moment) -> None:
        super().configure(moment)
        for layer in gates(moment.module).values():
            assert isinstance(layer, RankedConv2d)
            layer.noise = self.noise_in(moment.epoch)
