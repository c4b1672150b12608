"""Masks frozen to the channels that a trained gate opens most often.

A network whose frozen masks do as well as its gates has gates that do not follow the image: a
pruned network would do the same without them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from headgate.errors import ModelError
from headgate.train.evaluation_mode import evaluating
from headgate.train.gates.base import GatedConv2d
from headgate.train.gates.layer import gates


def freeze(module: nn.Module, places: Mapping[str, Tensor]) -> None:
    """Fixes the mask of every gated layer, in place; ``places`` as of :func:`channel_places`."""
    for path, layer in channel_gates(module).items():
        layer.freeze(places[path])


def channel_gates(module: nn.Module) -> dict[str, GatedConv2d]:
    """The layers with a gate a channel, by module path.

    Raises:
        ModelError: no gated layer, or one that gates pixels, whose masks cannot be frozen.
    """
    found = {}
    for path, layer in gates(module).items():
        if not isinstance(layer, GatedConv2d):
            raise ModelError(
                f"the mask of layer {path!r} cannot be frozen: a {type(layer).__name__} gates "
                "pixels, only masks of channels can"
            )
        found[path] = layer
    if not found:
        raise ModelError(f"{type(module).__name__} has no gated layer; make some with gate()")
    return found


@torch.no_grad()
def channel_places(module: nn.Module, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Each layer's channels in the order of how often they are open: places, int64 (C,), by path.

    Equally frequent channels are in the order of their mean gate, were they open.

    Args:
        module: a network with channel gates; it runs in evaluation mode, at its present density.
        batches: tensors (N, C, H, W) as the network takes them.

    Raises:
        ModelError: no gated layer, one that gates pixels, or no images.
    """
    layers = channel_gates(module)
    opened = {path: torch.zeros(layer.channels).double() for path, layer in layers.items()}
    weighed = {path: torch.zeros(layer.channels).double() for path, layer in layers.items()}
    images = 0

    def watch(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, GatedConv2d)
        weights = layer.weigh(layer.saliency(layer.wide(inputs[0])))
        weighed[layer.name] += weights.double().sum(0).cpu()

    hooks = [layer.register_forward_pre_hook(watch) for layer in layers.values()]
    try:
        with evaluating(module):
            for batch in batches:
                module(batch.clone())  # forward() may change its input
                images += len(batch)
                for path, layer in layers.items():
                    assert layer.last_gate is not None
                    opened[path] += (layer.last_gate != 0).double().sum(0).cpu()
    finally:
        for hook in hooks:
            hook.remove()
    if not images:
        raise ModelError("channel_places: no images to tell which channels are open most often")
    return {path: _places(opened[path], weighed[path]) for path in layers}


def _places(opened: Tensor, weighed: Tensor) -> Tensor:
    by_weight = weighed.argsort(descending=True, stable=True)
    order = by_weight[opened[by_weight].argsort(descending=True, stable=True)]
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order))
    return places
