"""Pruned networks for programs that have no operator to place channels among constants."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from headgate.train.copying import copied, replace_module
from headgate.train.pruning.layers import find_prunable
from headgate.train.pruning.operators import PlaceChannels


def without_placing(module: nn.Module) -> nn.Module:
    """A copy that places no channels, in evaluation mode; the module itself where nothing does.

    The convolution in front computes the channels that were removed, too, with filters of zeros,
    and its norm makes them the constants. ONNX Runtime takes a tenth less time for that than for a
    1x1 convolution behind that places channels.
    """
    if not any(isinstance(part, PlaceChannels) for part in module.modules()):
        return module
    changed = copied(module).eval()
    for layer in find_prunable(changed).values():
        if layer.place is not None:
            place = changed.get_submodule(layer.place)
            assert isinstance(place, PlaceChannels)
            _widen(changed.get_submodule(layer.path), changed.get_submodule(layer.norm), place)
            replace_module(changed, place, nn.Identity())
    return changed


def _widen(conv: nn.Module, norm: nn.Module, place: PlaceChannels) -> None:
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    total, kept = len(place.constant), place.channels
    conv.out_channels = norm.num_features = total
    conv.weight = nn.Parameter(_among(conv.weight, kept, torch.zeros(total)))
    if conv.bias is not None:
        conv.bias = nn.Parameter(_among(conv.bias, kept, torch.zeros(total)))
    # What is left of a sum of zeros is the bias of the norm.
    norm.weight = nn.Parameter(_among(norm.weight, kept, torch.zeros(total)))
    norm.bias = nn.Parameter(_among(norm.bias, kept, place.constant))
    norm.running_mean = _among(norm.running_mean, kept, torch.zeros(total))
    norm.running_var = _among(norm.running_var, kept, torch.ones(total))


def _among(values: Tensor | None, kept: list[int], others: Tensor) -> Tensor:
    """``values`` (K, ...) at their places among C ``others``."""
    assert values is not None
    shape = (len(others), *values.shape[1:])
    result = others.detach().reshape(-1, *[1] * (values.ndim - 1)).expand(shape).clone()
    result[kept] = values.detach()
    return result
