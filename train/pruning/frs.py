"""FRS: gradual channel pruning while training, by feature relevance scores.

Aketi, Roy, Raghunathan and Roy, "Gradual Channel Pruning While Training Using Feature Relevance
Scores for Convolutional Neural Networks", IEEE Access 8, 2020, arXiv:2002.09958; details from the
official code (purdue-nrl/Gradual-Channel-Pruning-using-FRS).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

import torch
from torch import nn

from headgate.device.schema import BELOW_1, at_least
from headgate.errors import RecipeError
from headgate.train.data.augment import to_network_input
from headgate.train.macs import count_macs
from headgate.train.models import create_model
from headgate.train.procedure import Moment, Procedure
from headgate.train.pruning.masks import RemainingMacs, masked_norms, without_masks
from headgate.train.pruning.remove import remove_channels
from headgate.train.pruning.scores import Absolute, feature_relevance_scores, least_relevant


@dataclass(frozen=True)
class FeatureRelevancePruning(Procedure):
    """Every few epochs the channels of the smallest scores are masked for good, over all layers.

    Args:
        every_epochs: pruned before each epoch that is a multiple of this, and not epoch 0.
        until_epoch: and not after this one; the rest of the training is recovery.
        channels: how many go each time (x in the paper).
        target_macs: instead of ``channels``: MACs in the end, as a share of those of the network
            as the recipe's ``model`` makes it. Each time goes an equal share of the way.
        images: how many training images the scores are taken from; 0: all.
        absolute: see :func:`feature_relevance_scores`.
        min_channels: as many always stay in a layer.

    Raises:
        RecipeError: both or neither of the two goals, or no epoch to prune before.
    """

    every_epochs: Annotated[int, at_least(1)] = 1
    until_epoch: int = 1
    channels: Annotated[int, at_least(0)] = 0
    target_macs: Annotated[float, BELOW_1] = 0.0
    images: Annotated[int, at_least(0)] = 0
    absolute: Absolute = "classes"
    min_channels: Annotated[int, at_least(1)] = 1

    def __post_init__(self) -> None:
        if (self.channels > 0) == (self.target_macs > 0):
            raise RecipeError(
                "recipe: prune_options of 'frs' need one of channels (how many go each time) and "
                "target_macs (the share of MACs in the end)"
            )
        if self.until_epoch < self.every_epochs:
            raise RecipeError(
                f"recipe: prune_options.until_epoch is {self.until_epoch}, not at least "
                f"every_epochs = {self.every_epochs}"
            )

    def before_epoch(self, moment: Moment) -> None:
        """Masks this time's share of the channels, if it is time.

        Raises:
            RecipeError: MACs that cannot be reached; see :func:`feature_relevance_scores` too.
        """
        epoch = moment.epoch
        if epoch == 0 or epoch % self.every_epochs or epoch > self.until_epoch:
            return
        module, problem = _own_forward(moment.module), moment.problem
        norms = masked_norms(module)
        scores = feature_relevance_scores(module, norms, problem, self.images, self.absolute)
        kept = {path: norm.kept for path, norm in norms.items()}
        candidates = least_relevant(scores, kept, self.min_channels)
        if self.channels:
            for path, channel in islice(candidates, self.channels):
                kept[path][channel] = False
            return
        remaining = RemainingMacs(module, _example(moment))
        goal = self._goal(moment, remaining.total)
        while remaining() > goal:
            pair = next(candidates, None)
            if pair is None:
                raise RecipeError(
                    f"recipe: prune_options.target_macs = {self.target_macs} cannot be reached: "
                    f"{remaining():,} MACs are left when each layer has {self.min_channels} of its "
                    "channels"
                )
            kept[pair[0]][pair[1]] = False

    def _goal(self, moment: Moment, start: int) -> float:
        recipe = moment.recipe
        model = create_model(recipe.model, len(moment.problem.classes), **recipe.model_options)
        target = self.target_macs * count_macs(model, _example(moment).cpu()).dense
        times = self.until_epoch // self.every_epochs
        return start + (target - start) * (moment.epoch // self.every_epochs) / times

    def finish(self, moment: Moment) -> nn.Module:
        return remove_channels(*without_masks(moment.module))


def _own_forward(module: nn.Module) -> nn.Module:
    """``module``, sharing everything, without the mixed precision that Accelerate put over it."""
    own = copy.copy(module)
    vars(own).pop("forward", None)
    return own


def _example(moment: Moment) -> torch.Tensor:
    return to_network_input(moment.problem.train_images[:1], moment.problem.preprocess)
