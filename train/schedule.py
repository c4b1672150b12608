"""What changes over a run, as functions of the time alone, so that resuming needs no state."""

from __future__ import annotations

import math

from headgate.train.recipe import Recipe


def learning_rate(recipe: Recipe, epoch: float) -> float:
    """Linear warm-up, then half a cosine down to the final rate (Loshchilov and Hutter, 2017).

    ``epoch`` counts passes over the data and may be fractional.
    """
    if epoch < recipe.warmup_epochs:
        # Never 0: the first step should already move.
        return recipe.learning_rate * min(max(epoch, 1e-3) / recipe.warmup_epochs, 1.0)
    length = max(recipe.epochs - recipe.warmup_epochs, 1e-9)
    done = min((epoch - recipe.warmup_epochs) / length, 1.0)
    span = recipe.learning_rate - recipe.final_learning_rate
    return recipe.final_learning_rate + span * 0.5 * (1.0 + math.cos(math.pi * done))


def gate_penalty_weight(recipe: Recipe, epoch: float) -> float:
    """Weight of the gates' regulariser; ``epoch`` may be fractional."""
    if not recipe.gate_penalty_epochs:
        return recipe.gate_penalty
    return faded(recipe.gate_penalty, recipe.gate_penalty_epochs, epoch)


def faded(start: float, epochs: float, epoch: float) -> float:
    """What is left at ``epoch`` of a number that falls to 0 in a straight line over ``epochs``."""
    return start * max(0.0, 1.0 - epoch / epochs) if epochs else 0.0


def density_stages(recipe: Recipe) -> list[list[float]]:
    """Pairs of first epoch and density, rising in epochs."""
    return recipe.density_schedule or [[0, recipe.density]]


def density(recipe: Recipe, epoch: int) -> float:
    """Share of channels active during ``epoch``; before the first stage nothing is gated."""
    stages = reversed(density_stages(recipe))
    return next((share for first, share in stages if epoch >= first), 1.0)
