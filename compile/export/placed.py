"""Pruned networks for programs that have no operator to place channels among constants."""

from __future__ import annotations

import copy

import torch
from torch import nn

from headgate.train.pruning.operators import PlaceChannels


def with_convolutions(module: nn.Module) -> nn.Module:
    """A copy in which 1x1 convolutions place channels; the module itself where nothing does.

    Such a convolution keeps the layout that a program gave its input, which gathering would not,
    and its weights of zero and one are exact in int8.
    """
    if not any(isinstance(part, PlaceChannels) for part in module.modules()):
        return module
    changed = copy.deepcopy(module)
    for name, part in list(changed.named_modules()):
        if isinstance(part, PlaceChannels):
            changed.set_submodule(name, _convolution(part))
    return changed


def _convolution(place: PlaceChannels) -> nn.Conv2d:
    total, kept = len(place.constant), place.channels
    result = nn.Conv2d(len(kept), total, 1).eval()
    bias = place.constant.detach().clone()
    bias[kept] = 0
    weight = torch.zeros_like(result.weight)
    weight[kept, range(len(kept))] = 1
    result.weight, result.bias = nn.Parameter(weight), nn.Parameter(bias)
    return result
