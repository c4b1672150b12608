"""Where CGNet's thresholds are drawn to: the procedure that moves their target."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from headgate.errors import RecipeError
from headgate.train.gates.layer import GatedLayer, gates
from headgate.train.procedure import Moment, Procedure


class TargetedLayer(GatedLayer):
    """A gated layer whose penalty draws its thresholds to ``target``; only training knows it."""

    target: float = 1.0


def set_target(module: nn.Module, target: float) -> None:
    """Draw the thresholds of all layers that have a target to ``target`` from now on, in place.

    The larger it is, the less is computed: 0 is the mean of the partial sums, 1 a standard
    deviation above it.
    """
    for layer in gates(module).values():
        if isinstance(layer, TargetedLayer):
            layer.target = target


class ThresholdTarget(Procedure):
    """Gives all thresholds the target T, at once or in stages, as FBS lowers its density.

    Args:
        target: T in the end, in standard deviations of the partial sum.
        schedule: pairs of first epoch and target, the last of them ``target``.

    Raises:
        RecipeError: not numbers, epochs that do not rise from 0, another target at the end.
    """

    def __init__(self, target: float = 1.0, schedule: Sequence[Sequence[float]] = ()) -> None:
        stages = schedule or [[0, target]]
        if not isinstance(stages, Sequence) or not all(map(_is_stage, stages)):
            raise RecipeError(
                f"recipe: gate_training needs numbers, target = {target!r} and "
                f"schedule = {schedule!r}, a list of [first epoch, target]"
            )
        epochs = [first for first, _ in stages]
        if epochs[0] != 0 or epochs != sorted(set(epochs)) or stages[-1][1] != target:
            raise RecipeError(
                f"recipe: gate_training.schedule = {schedule!r} must begin at epoch 0, rise, and "
                f"end with target = {target!r}"
            )
        self.stages = stages

    def at(self, epoch: int) -> float:
        """The target during ``epoch``, counted from 0."""
        return next(target for first, target in reversed(self.stages) if epoch >= first)

    def configure(self, moment: Moment) -> None:
        set_target(moment.module, self.at(moment.epoch))


def _is_stage(stage: object) -> bool:
    return (
        isinstance(stage, Sequence)
        and len(stage) == 2
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in stage)
    )
