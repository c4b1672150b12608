"""Noise on a gate's choice that fades: in training it opens losers, ever less often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from headgate.device.schema import NOT_NEGATIVE
from headgate.errors import RecipeError
from headgate.train.procedure import Procedure
from headgate.train.schedule import faded


@dataclass(frozen=True)
class FadingNoise(Procedure):
    """A scale that falls to nothing in a straight line.

    Args:
        noise: scale of the random numbers in the first epoch.
        noise_epochs: from this epoch on there is none.

    Raises:
        RecipeError: noise that has no epochs to fade in.
    """

    noise: Annotated[float, NOT_NEGATIVE] = 0.0
    noise_epochs: Annotated[float, NOT_NEGATIVE] = 0.0

    def __post_init__(self) -> None:
        if self.noise and not self.noise_epochs:
            raise RecipeError(
                f"recipe: gate_training.noise = {self.noise:g} has no epochs to fade in: set "
                "gate_training.noise_epochs, the epoch from which on there is none"
            )

    def noise_in(self, epoch: int) -> float:
        """The scale of ``epoch``."""
        return faded(self.noise, self.noise_epochs, epoch)
