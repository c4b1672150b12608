"""Lowering the density layer by layer, thresholds set from the wanted ratio: how DCP trains.

Our reading of the one-page paper (see :mod:`headgate.train.gates.dcp`), in which all weights
train along with the gates. When a stage of ``density_schedule`` begins, the first gated layer
moves to its density, the second one ``layer_epochs`` later, and so on. A layer that moves gets its
threshold over the training set, and the thresholds follow the logits batch by batch. At the end
they are set for the weights that are the result, averaged ones too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import nn

from headgate.device.schema import NOT_NEGATIVE, at_least
from headgate.errors import RecipeError
from headgate.train.gates.layer import gates
from headgate.train.gates.noise import FadingNoise
from headgate.train.gates.thresholds import ThresholdedConv2d, calibrate
from headgate.train.problem import TrainingImages
from headgate.train.procedure import Moment
from headgate.train.recipe import Recipe
from headgate.train.schedule import density_stages


@dataclass(frozen=True)
class LayerByLayer(FadingNoise):
    """Each stage of ``recipe.density_schedule`` takes the gated layers one after another.

    A stage at epoch 0 is where the run starts, for all layers at once.

    Args:
        layer_epochs: from one layer's turn to the next; below 1 several layers move together.
        calibration_images: how many training images thresholds are set over.

    The noise of :class:`FadingNoise` is on the logits.
    """

    layer_epochs: Annotated[float, NOT_NEGATIVE] = 1.0
    calibration_images: Annotated[int, at_least(1)] = 5000

    def configure(self, moment: Moment) -> None:
        """A RecipeError names layers whose turn would come after the last epoch."""
        layers = list(gates(moment.module).values())
        self._check_length(moment.recipe, len(layers))
        densities = self.densities(moment.recipe, moment.epoch, len(layers))
        for layer, density in zip(layers, densities, strict=True):
            assert isinstance(layer, ThresholdedConv2d)
            layer.set_density(density)
            layer.noise = self.noise_in(moment.epoch)

    def before_epoch(self, moment: Moment) -> None:
        layers = len(gates(moment.module))
        before, now = (
            self.densities(moment.recipe, epoch, layers)
            for epoch in (moment.epoch - 1, moment.epoch)
        )
        if before != now:
            self._calibrate(moment)

    def finish(self, moment: Moment) -> nn.Module:
        self._calibrate(moment)
        return moment.module

    def densities(self, recipe: Recipe, epoch: int, layers: int) -> list[float]:
        """The density of each gated layer, from the input on, during ``epoch``; 1 before 0."""
        found = [1.0] * layers
        for first, density in density_stages(recipe):
            for index in range(layers):
                if epoch >= self._turn(first, index):
                    found[index] = density
        return found

    def _turn(self, first: float, index: int) -> float:
        # Ten turns of 0.1 epochs are one epoch, not 0.9999999999999999.
        return round(first + index * self.layer_epochs, 6) if first else 0.0

    def _check_length(self, recipe: Recipe, layers: int) -> None:
        first, _ = density_stages(recipe)[-1]
        last = self._turn(first, layers - 1)
        if last > recipe.epochs - 1:
            raise RecipeError(
                f"recipe: the density stage at epoch {first:g} reaches the last of {layers} gated "
                f"layers at epoch {last:g}, but there are {recipe.epochs} epochs: begin it "
                f"earlier, or lower gate_training.layer_epochs = {self.layer_epochs:g}"
            )

    def _calibrate(self, moment: Moment) -> None:
        calibrate(moment.module, TrainingImages(moment.problem, self.calibration_images))
