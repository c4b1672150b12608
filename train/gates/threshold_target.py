"""The target that CGNet's thresholds are drawn to, and the procedure that moves it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from headgate.device.schema import BELOW_1, at_least
from headgate.errors import ModelError, RecipeError
from headgate.train.evaluation_mode import evaluating
from headgate.train.gates.layer import GatedLayer, gates
from headgate.train.problem import TrainingImages
from headgate.train.procedure import Moment, Procedure

# Halved steps from 0.25 on: a share is found to within 0.002 of a threshold, up to 0.5 away.
STEPS = [0.25 / 2**i for i in range(8)]


class TargetedLayer(GatedLayer):
    """A gated layer whose penalty draws its thresholds (C,) to a target, which training moves."""

    weight: nn.Parameter
    threshold: nn.Parameter
    target: Tensor


def targeted(module: nn.Module) -> list[TargetedLayer]:
    """The gated layers of ``module`` whose thresholds have a target; a ModelError if none has."""
    found = [layer for layer in gates(module).values() if isinstance(layer, TargetedLayer)]
    if not found:
        raise ModelError(f"{type(module).__name__} has no gate whose thresholds have a target")
    return found


def set_target(module: nn.Module, target: float) -> None:
    """Draw the thresholds of all layers to ``target`` from now on, in place.

    0 is the mean of the partial sums, 1 a standard deviation above it.

    Raises:
        ModelError: no layer has thresholds with a target.
    """
    for layer in targeted(module):
        layer.target.fill_(target)


@torch.no_grad()
def find_shift(module: nn.Module, kept: float, batches: Iterable[Tensor]) -> float:
    """The number that, added to all thresholds, lets ``kept`` of the conditional work be executed.

    ``kept`` is a share of their multiply-accumulates over all gated layers; ``batches`` are
    (N, C, H, W) as the network takes them, iterated over several times.
    """
    before = [layer.threshold.clone() for layer in targeted(module)]
    shift = 0.0
    for step in STEPS:
        _shift(module, before, shift)
        shift += step if _kept(module, batches) > kept else -step
    _shift(module, before, 0.0)
    return shift


def _shift(module: nn.Module, before: list[Tensor], shift: float) -> None:
    for layer, threshold in zip(targeted(module), before, strict=True):
        layer.threshold.copy_(threshold + shift)


def _kept(module: nn.Module, batches: Iterable[Tensor]) -> float:
    executed = whole = 0.0
    with evaluating(module):
        for images in batches:
            module(images.clone())  # forward() may change its input
            for layer in targeted(module):
                assert layer.last_gate is not None
                on = layer.last_gate != 0
                taps = layer.weight[0].numel()
                executed += taps * float(on.sum())
                whole += taps * on.numel()
    return executed / whole


@dataclass(frozen=True)
class ThresholdTarget(Procedure):
    """Gives all thresholds one target T: a number, numbers in stages, or what a share asks for.

    Args:
        target: T in the end, in standard deviations of the partial sum; with ``kept`` at first.
        schedule: pairs of first epoch and target, the last of them ``target``.
        kept: share of the conditional work to be executed. After each epoch T moves to where
            the thresholds would have to be for it, and at the end all of them move there together.
            0: T stays as it is. This is ours: the paper finds a T by trial.
        calibration_images: how many training images the share is measured on.

    Raises:
        RecipeError: epochs that do not rise from 0, another target at the end, a schedule beside
            a share.
    """

    target: float = 1.0
    schedule: Sequence[Sequence[float]] = ()
    kept: Annotated[float, BELOW_1] = 0.0
    calibration_images: Annotated[int, at_least(1)] = 1000

    def __post_init__(self) -> None:
        epochs = [stage[0] for stage in self.stages]
        rising = epochs[0] == 0 and epochs == sorted(set(epochs))
        pairs = all(len(stage) == 2 for stage in self.stages)
        if not rising or not pairs or self.stages[-1][1] != self.target:
            raise RecipeError(
                f"recipe: gate_training.schedule = {self.schedule!r}, but must be pairs of [first "
                f"epoch, target] that begin at epoch 0, rise, and end with target = {self.target:g}"
            )
        if self.kept and self.schedule:
            raise RecipeError("recipe: gate_training takes kept or a schedule, not both")

    @property
    def stages(self) -> Sequence[Sequence[float]]:
        return self.schedule or [[0, self.target]]

    def at(self, epoch: int) -> float:
        """The target during ``epoch``, counted from 0."""
        return next(target for first, target in reversed(self.stages) if epoch >= first)

    def before_epoch(self, moment: Moment) -> None:
        if not self.kept or moment.epoch == 0:
            set_target(moment.module, self.at(moment.epoch))

    def after_epoch(self, moment: Moment) -> None:
        # Only the target, a buffer, moves: several processes must not let their weights part.
        if self.kept:
            thresholds = torch.cat([layer.threshold.detach() for layer in targeted(moment.module)])
            set_target(moment.module, float(thresholds.mean()) + self._find_shift(moment))

    def finish(self, moment: Moment) -> nn.Module:
        if self.kept:
            shift = self._find_shift(moment)
            with torch.no_grad():
                for layer in targeted(moment.module):
                    layer.threshold.add_(shift)
        return moment.module

    def _find_shift(self, moment: Moment) -> float:
        images = TrainingImages(moment.problem, self.calibration_images)
        return find_shift(moment.module, self.kept, images)
