"""Lowering the density layer by layer, thresholds set from the wanted ratio: how DCP trains.

Our reading of the one-page paper (see :mod:`headgate.train.gates.dcp`), in which all weights
train along with the gates:

1. Before the first stage of ``density_schedule`` nothing is pruned: the weighting modules train.
2. When a stage begins the first gated layer moves to its density, the second one
   ``layer_epochs`` later, and so on; between two moves the network is fine-tuned. A layer that
   moves gets its threshold from the wanted ratio over the training set. Several stages lower the
   density slowly, because a channel that is never above the threshold gets no gradient any more.
3. From then on all layers are fine-tuned together. In all of training the thresholds follow the
   logits, batch by batch.
4. At the end they are adjusted iteratively, for the weights that are the result (averaged ones
   too), on training images without augmentation.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from headgate.errors import RecipeError
from headgate.train.evaluate import BATCH, to_network_input
from headgate.train.gates.layer import gates
from headgate.train.gates.thresholds import calibrate
from headgate.train.problem import Problem
from headgate.train.procedure import Moment, Procedure
from headgate.train.recipe import Recipe


class LayerByLayer(Procedure):
    """Each stage of ``recipe.density_schedule`` takes the gated layers one after another.

    A stage at epoch 0 is where the run starts, for all layers at once; without a schedule that is
    ``recipe.density``.

    Args:
        layer_epochs: from one layer's turn to the next; below 1 several layers move together.
        calibration_images: how many training images thresholds are set over, evenly spread over
            the training set.

    Raises:
        RecipeError: options out of range, or layers whose turn would come after the last epoch.
    """

    def __init__(self, layer_epochs: float = 1.0, calibration_images: int = 5000) -> None:
        if layer_epochs < 0 or calibration_images < 1:
            raise RecipeError(
                f"recipe: gate_training has layer_epochs = {layer_epochs!r} and "
                f"calibration_images = {calibration_images!r}, but they must be at least 0 and 1"
            )
        self.layer_epochs = layer_epochs
        self.calibration_images = calibration_images

    def configure(self, moment: Moment) -> None:
        layers = list(gates(moment.module).values())
        self._check_length(moment.recipe, len(layers))
        for index, layer in enumerate(layers):
            layer.set_density(self.density(moment.recipe, moment.epoch, index))

    def before_epoch(self, moment: Moment) -> None:
        if any(
            self.density(moment.recipe, moment.epoch, index)
            != (self.density(moment.recipe, moment.epoch - 1, index) if moment.epoch else 1.0)
            for index in range(len(gates(moment.module)))
        ):
            self._calibrate(moment)

    def finish(self, moment: Moment) -> nn.Module:
        self._calibrate(moment)
        return moment.module

    def density(self, recipe: Recipe, epoch: int, index: int) -> float:
        """The density of gated layer ``index``, counted from the input, during ``epoch``."""
        current = 1.0
        for first, value in _stages(recipe):
            if epoch >= self._turn(first, index):
                current = value
        return current

    def _turn(self, first: float, index: int) -> float:
        # Ten turns of 0.1 epochs are one epoch, not 0.9999999999999999.
        return round(first + index * self.layer_epochs, 6) if first else 0.0

    def _check_length(self, recipe: Recipe, layers: int) -> None:
        first = _stages(recipe)[-1][0]
        last = self._turn(first, layers - 1)
        if last > recipe.epochs - 1:
            raise RecipeError(
                f"recipe: the density stage at epoch {first:g} reaches the last of {layers} gated "
                f"layers at epoch {last:g}, but there are {recipe.epochs} epochs: begin it "
                f"earlier, or lower gate_training.layer_epochs = {self.layer_epochs:g}"
            )

    def _calibrate(self, moment: Moment) -> None:
        calibrate(moment.module, _TrainingImages(moment.problem, self.calibration_images))


def _stages(recipe: Recipe) -> list[list[float]]:
    return recipe.density_schedule or [[0, recipe.density]]


class _TrainingImages:
    """Batches of up to ``count`` training images without augmentation, evenly spread."""

    def __init__(self, problem: Problem, count: int) -> None:
        self.problem = problem
        total = len(problem.train_images)
        self.chosen = torch.arange(min(count, total)) * total // min(count, total)

    def __iter__(self) -> Iterator[Tensor]:
        images, preprocess = self.problem.train_images, self.problem.preprocess
        mean = torch.tensor(preprocess.mean, device=images.device)
        std = torch.tensor(preprocess.std, device=images.device)
        for chosen in self.chosen.split(BATCH):
            yield to_network_input(images[chosen.to(images.device)], mean, std)
