"""Channel gates by a threshold on a logit, so that how many channels are active varies per input.

A layer has one threshold for all of its channels and images, a quantile of the logits over images.
It is re-estimated with each training batch, as batch norm its statistics, and :func:`calibrate`
sets it over a given set of images.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from headgate.errors import ModelError
from headgate.train.evaluation_mode import evaluating
from headgate.train.gates.base import GatedConv2d
from headgate.train.gates.hardness import effort_distance
from headgate.train.gates.layer import gates
from headgate.train.gates.relaxed import logistic_like, masked_through
from headgate.train.gates.shaping import batch_shaping

# Weight of a training batch against those before it: quick enough to follow weights that move at
# a high learning rate, slow enough for batches of a few hundred images.
BATCH_WEIGHT = 0.25


class ThresholdedConv2d(GatedConv2d):
    """A gated convolution whose saliencies are logits z (N, C); channels with z > T are active.

    ``set_density(d)`` makes ``ceil(C * d)`` channels active on average over images, which is the
    number that FBS keeps for every one of them. All are when that is C, whatever T is.

    Attributes:
        thresholds: buffer (C,); with entry k - 1 as T, k channels are active on average.
        threshold: buffer (), T: the entry for the present density.
        noise: in training logistic numbers of this scale are added to logits that are compared,
            and T is then their quantile over the batch.
        straight_through: in training a logit also learns what opening its channel is worth, see
            :func:`masked_through`.
    """

    thresholds: Tensor
    threshold: Tensor

    noise = 0.0

    last_logits: Tensor | None = None
    """Of the last forward in training, to be shaped."""

    _choice: tuple[Tensor, Tensor] | None = None
    """When gradients go straight through: all weights, and by how much logits exceed T."""

    def start_thresholds(self, logits: Tensor) -> None:
        """Makes the buffers, as if every image had the logits (C,): a guess before any image."""
        self.register_buffer("thresholds", find_thresholds(logits.detach()[None]))
        self.register_buffer("threshold", self.thresholds[self.active - 1].clone())

    def set_density(self, density: float) -> None:
        """Makes ``ceil(C * density)`` channels active on average, as far as logits are known."""
        super().set_density(density)
        if "thresholds" in self._buffers:  # the base class asks before they are made
            self._choose()

    @torch.no_grad()
    def set_thresholds(self, thresholds: Tensor) -> None:
        """Takes new ``thresholds`` (C,) and the one for the present density from them."""
        self.thresholds.copy_(thresholds)
        self._choose()

    def keep(self, logits: Tensor, weights: Tensor) -> Tensor:
        """``weights`` (N, C) where the logits are above T, else 0; a training batch moves T first.

        The comparison is a constant to the gradient, unless it goes straight through.
        """
        self._choice = None
        if self.training:
            self.last_logits = logits
            found = find_thresholds(logits.detach())
            self.set_thresholds(self.thresholds.lerp(found.to(self.thresholds), BATCH_WEIGHT))
        if self.active == self.channels:
            return weights
        threshold: Tensor = self.threshold
        if self.training and self.noise:
            logits = logits + self.noise * logistic_like(logits)
            threshold = find_thresholds(logits.detach())[self.active - 1]
        if self.training and self.straight_through:
            self._choice = weights, logits - threshold
        # Asked this way round, NaN shows in the loss instead of making channels inactive.
        inactive = logits <= threshold
        return torch.where(inactive, torch.zeros_like(weights), weights)

    def _weighed(self, u: Tensor, gate: Tensor) -> Tensor:
        if self._choice is None or self.opened is not None:
            return super()._weighed(u, gate)
        weights, margin = self._choice
        return masked_through(super()._weighed(u, weights), margin)

    def shaping(self) -> Tensor:
        """How far each channel's logits over the last batch are from opening for part of it.

        See :func:`batch_shaping`. Nothing is asked of a layer that has no choice.

        Raises:
            ModelError: it has not run in training.
        """
        margins = self._margins()
        if margins is None:
            return self.threshold.new_zeros(())
        return batch_shaping(margins, self.active / self.channels)

    def effort(self, hardness: Tensor) -> Tensor:
        """How far the last batch's shares are from what ``hardness`` (N,) asks for.

        See :func:`effort_distance`. Nothing is asked of a layer that has no choice.

        Raises:
            ModelError: it has not run in training.
        """
        margins = self._margins()
        if margins is None:
            return self.threshold.new_zeros(())
        return effort_distance(margins, hardness, self.active / self.channels)

    def _margins(self) -> Tensor | None:
        """By how much the last batch's logits exceed T; None where the layer has no choice."""
        if self.active == self.channels or self.opened is not None:
            return None
        if self.last_logits is None:
            raise ModelError(f"gated layer {self.name!r} has not run in training mode yet")
        return self.last_logits - self.threshold

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "last_logits": None, "_choice": None}

    def _choose(self) -> None:
        self.threshold.copy_(self.thresholds[self.active - 1])


def find_thresholds(logits: Tensor) -> Tensor:
    """Logits (N, C) -> (C,): with entry k - 1 as threshold, k channels are active on average.

    Each lies in the middle between the last logit that stays and the first that goes, so that
    rounding does not decide; ties there all go. The last entry is the least logit.
    """
    images, channels = logits.shape
    ordered = logits.flatten().sort(descending=True).values
    first_out = torch.arange(1, channels, device=logits.device) * images
    middle = torch.lerp(ordered[first_out - 1], ordered[first_out], 0.5)
    return torch.cat([middle, ordered[-1:]])


def calibrate(module: nn.Module, batches: Iterable[Tensor], tolerance: float = 1e-3) -> None:
    """Sets the thresholds of every layer over ``batches``, for the densities there are, in place.

    A layer's logits depend on what the layers before it keep, so there are several passes, at most
    as many as layers; each sets all thresholds by what it saw.

    Args:
        module: a network from ``gate(..., method="dcp")``; it runs in evaluation mode.
        batches: tensors (N, C, H, W) as the network takes them, iterated over once a pass:
            ``images.split(500)``.
        tolerance: allowed difference between the active and the wanted share of a layer's channels.

    Raises:
        ModelError: a network without gates that have a threshold, or no images.
    """
    layers = [layer for layer in gates(module).values() if isinstance(layer, ThresholdedConv2d)]
    if not layers:
        raise ModelError(
            f"{type(module).__name__} has no gate with a threshold to calibrate; "
            "make some with gate(..., method='dcp')"
        )
    for _ in layers:
        seen = _logits(module, layers, batches)
        misses = [_missed(layer, z) for layer, z in seen]
        for layer, z in seen:
            layer.set_thresholds(find_thresholds(z))
        if max(misses) <= tolerance:
            break


def _missed(layer: ThresholdedConv2d, logits: Tensor) -> float:
    if layer.active == layer.channels:
        return 0.0
    kept = (logits > layer.threshold).double().mean().item()
    return abs(kept - layer.active / layer.channels)


@torch.no_grad()
def _logits(
    module: nn.Module, layers: list[ThresholdedConv2d], batches: Iterable[Tensor]
) -> list[tuple[ThresholdedConv2d, Tensor]]:
    """Every layer with its logits (N, C) over all batches."""
    found: dict[nn.Module, list[Tensor]] = {layer: [] for layer in layers}

    def watch(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, ThresholdedConv2d)
        found[layer].append(layer.saliency(layer.wide(inputs[0])))

    hooks = [layer.register_forward_pre_hook(watch) for layer in layers]
    try:
        with evaluating(module):
            for batch in batches:
                module(batch.clone())  # forward() may change its input
    finally:
        for hook in hooks:
            hook.remove()
    for layer in layers:
        if not found[layer]:
            raise ModelError(f"calibrate: no image reached the gated layer {layer.name!r}")
    return [(layer, torch.cat(found[layer])) for layer in layers]
