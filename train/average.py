"""Exponential moving average of a network's weights and statistics."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Average:
    """Keeps decay * average + (1 - decay) * weights of every floating-point tensor.

    Early on the decay is smaller, (1 + n) / (10 + n) after n updates, so that the first weights
    are forgotten (as in TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {
            name: tensor.detach().clone() for name, tensor in module.state_dict().items()
        }

    @torch.no_grad()
    def update(self, module: nn.Module, updates: int) -> None:
        """Takes the module's present weights in; ``updates`` were taken in before."""
        weight = 1.0 - min(self.decay, (1 + updates) / (10 + updates))
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                self.tensors[name].lerp_(tensor, weight)
            else:
                self.tensors[name].copy_(tensor)

    def load(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])
