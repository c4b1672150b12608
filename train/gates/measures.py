"""Measures of the last forward of a network's gates: densities, a regulariser, a check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from headgate.errors import ModelError, UsageError, suggest
from headgate.train.gates.dynamics import Dynamics, dynamics
from headgate.train.gates.layer import gates
from headgate.train.gates.thresholds import ThresholdedConv2d

LossKind = Literal["own", "moe", "shaping", "hardness"]


@dataclass(frozen=True)
class GateStatistics:
    """One gated layer's last forward: what was computed, and its fraction.

    ``mask`` is (N, C) for channel gates, (N, C, H, W) for pixel gates.
    """

    mask: Tensor
    density: float

    @property
    def active(self) -> Tensor:
        """(N,), int64: how many of the mask's entries were computed for each image."""
        return self.mask.flatten(1).sum(1)

    @property
    def least(self) -> int:
        return int(self.active.min())

    @property
    def mean(self) -> float:
        return self.active.double().mean().item()

    @property
    def most(self) -> int:
        return int(self.active.max())

    def dynamics(self, labels: Tensor | None = None) -> Dynamics:
        """How much the mask depends on the image, and with ``labels``, int64 (N,), on its class."""
        return dynamics(self.mask, labels)


def _last_gates(module: nn.Module) -> dict[str, Tensor]:
    found = gates(module)
    if not found:
        raise ModelError(f"{type(module).__name__} has no gated layer; make some with gate()")
    last = {path: layer.last_gate for path, layer in found.items()}
    idle = [path for path, g in last.items() if g is None]
    if idle:
        raise ModelError(f"gated layer {idle[0]!r} has not run yet; call the network first")
    return {path: g for path, g in last.items() if g is not None}


def gate_statistics(module: nn.Module) -> dict[str, GateStatistics]:
    """The last forward's masks and mean densities of every gated layer, by module path.

    Raises:
        ModelError: no gated layer, or one that has not run.
    """
    masks = {path: g.detach() != 0 for path, g in _last_gates(module).items()}
    return {path: GateStatistics(mask, mask.float().mean().item()) for path, mask in masks.items()}


def gate_loss(module: nn.Module, kind: LossKind = "own", hardness: Tensor | None = None) -> Tensor:
    """A regulariser on the gates of the last forward, a scalar to be weighted and added.

    "own" is the sum of the layers' ``penalty()``, for channel gates that of FBS's official code
    (ICLR 2019, section 3.4 with the weight 1e-8). "moe" is the load balance of FBS's code, for
    channel gates: the sum over layers of variance / mean^2 of the channels' batch sums. "shaping"
    is the sum over layers of :func:`batch_shaping`, and "hardness" that of :func:`effort_distance`
    for images of ``hardness`` (N,), both for gates with a threshold (DCP) in training.

    Raises:
        UsageError: an unknown kind, or "hardness" without that of the images.
        ModelError: no gated layer, one that has not run, or of gates that the kind is not for.
    """
    if kind not in get_args(LossKind):
        raise UsageError(f"unknown gate loss {kind!r}.{suggest(str(kind), get_args(LossKind))}")
    last = _last_gates(module)
    if kind == "own":
        return torch.stack([layer.penalty() for layer in gates(module).values()]).sum()
    if kind == "hardness":
        if hardness is None:
            raise UsageError("gate loss 'hardness' needs how hard each image is")
        layers = _thresholded(module, kind)
        return torch.stack([layer.effort(hardness) for layer in layers]).sum()
    if kind == "shaping":
        return torch.stack([layer.shaping() for layer in _thresholded(module, kind)]).sum()
    wide = [path for path, g in last.items() if g.ndim > 2]
    if wide:
        raise ModelError(f"gate loss 'moe' is for channel gates, {wide[0]!r} has a pixel gate")
    loads = [g.abs().sum(0) for g in last.values()]
    smallest = 1e-12  # a layer with every channel skipped has the mean 0
    return torch.stack(
        [s.var(unbiased=False) / s.mean().square().clamp_min(smallest) for s in loads]
    ).sum()


def _thresholded(module: nn.Module, kind: LossKind) -> list[ThresholdedConv2d]:
    found = []
    for layer in gates(module).values():
        if not isinstance(layer, ThresholdedConv2d):
            raise ModelError(
                f"gate loss {kind!r} is for gates with a threshold, and {layer.name!r} is a "
                f"{type(layer).__name__}: gate with method='dcp'"
            )
        found.append(layer)
    return found


def check_finite(module: nn.Module) -> None:
    """Raises a TrainingError that names the first layer whose last gate was not finite."""
    for layer in gates(module).values():
        layer.check_finite()
