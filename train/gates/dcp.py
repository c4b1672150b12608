"""DCP, channel T-weighting: a thresholded sigmoid decides how much each channel weighs, if at all.

Zhang, Hu, Guan, Ye, "Accelerating Convolutional Neural Networks with Dynamic Channel Pruning",
Data Compression Conference 2019, DOI 10.1109/DCC.2019.00075. The record is one page and there is
no code. Known from it:

* modules at certain convolutions give each output channel a weight for this input; weight zero
  means pruned, a kept channel is multiplied by its weight;
* h(z) = sigmoid(z) * 1{z > T}, the "T-sigmoid": the comparison is made before the sigmoid;
* training goes layer by layer: the module first, then T from the wanted ratio, and at the end T
  is adjusted iteratively. Fully connected layers are left alone.

Everything else is OUR READING:

* z is linear in the channel means of the layer's input, as in squeeze-and-excitation. From image
  to image a mean varies little beside what it is on average, so a predictor may come to keep
  nearly the same channels for all images; ``standardize`` takes the average out;
* T is one number per layer, the quantile of its z over channels and training images. So the
  number of active channels varies per image, down to none and up to all;
* no gradient through the comparison, so it reaches active channels only, unless
  ``straight_through`` says otherwise;
* the weight replaces batch norm's factor, times a constant of the layer: see :class:`DCPConv2d`;
* a pruned channel is exactly zero, its shift too;
* all weights of the network train along, see :mod:`headgate.train.gates.layer_by_layer`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from headgate.train.gates.base import Variant, start_level
from headgate.train.gates.layer import Conv
from headgate.train.gates.layer_by_layer import LayerByLayer
from headgate.train.gates.norms import Norm
from headgate.train.gates.predictor import make_predictor
from headgate.train.gates.thresholds import ThresholdedConv2d
from headgate.train.procedure import Procedure

# The factor in units of the largest |gamma|: the most salient channel starts at sigmoid(0), where
# the sigmoid is steepest, and may still double.
HEADROOM = 2.0


class DCPConv2d(ThresholdedConv2d):
    """A convolution gated by channel T-weighting.

    ::

        s = mean of x over height and width              (N, C_in)
        z = s @ Phi.T + rho                              (N, C)
        g = factor * sigmoid(z) where z > T, else 0      (N, C)

    ``factor`` is a constant of the layer, 2 * max |gamma| of the norm that is replaced, as the
    sigmoid alone is below one; rho starts at logit(|gamma| / factor), so that g starts near
    |gamma|. Phi starts at a truncated normal of standard deviation ``predictor_std / sqrt(C_in)``,
    and T, before any training or calibration, at a guess from rho.

    Args:
        standardize: predict from (s - mean) / deviation, running ones over the training images.
        predictor_rank: rank of Phi, by default as for :class:`FBSConv2d`.
        straight_through: see :class:`ThresholdedConv2d`.

    The other arguments, and the errors, are those of :class:`GatedConv2d`.
    """

    procedure: ClassVar[type[Procedure] | None] = LayerByLayer

    factor: Tensor

    def __init__(
        self,
        conv: Conv,
        norm: Norm | None,
        name: str,
        density: float,
        variant: Variant = "official",
        predictor_std: float = 0.1,
        standardize: bool = False,
        predictor_rank: int | None = None,
        straight_through: bool = False,
    ) -> None:
        super().__init__(conv, norm, name, density, variant)
        self.straight_through = straight_through
        level = start_level(conv, norm)
        self.register_buffer("factor", HEADROOM * level.max())
        deviation = torch.full_like(level, predictor_std / self.in_channels**0.5)
        bias = torch.logit(level / self.factor)
        self.predictor = make_predictor(conv, predictor_rank, bias, deviation, standardize)
        self.start_thresholds(self.predictor.bias)

    def saliency(self, x: Tensor) -> Tensor:
        return self.predictor(torch.mean(x, (2, 3)))

    def select(self, saliency: Tensor) -> Tensor:
        return self.keep(saliency, self.weigh(saliency))

    def weigh(self, saliency: Tensor) -> Tensor:
        return self.factor * torch.sigmoid(saliency)
