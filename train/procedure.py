"""A method's part of training beside the gradient steps: the loop asks it at fixed moments."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from headgate.train.problem import Problem
from headgate.train.recipe import Recipe


@dataclass(frozen=True)
class Moment:
    """Where a run stands: its network, recipe and data, and the epoch, counted from 0."""

    module: nn.Module
    recipe: Recipe
    problem: Problem
    epoch: int


@dataclass(frozen=True)
class Procedure:
    """Does nothing at any moment; methods override what they need.

    A method's procedure is a frozen dataclass, whose fields are the options that a recipe gives
    it, annotated as :mod:`headgate.device.schema` checks them. What it must remember lies in
    buffers of the network, which are saved with it. Of several processes each asks its own copy,
    which must come to the same result in all of them.
    """

    def configure(self, moment: Moment) -> None:
        """Sets what follows from the epoch and no buffer holds, such as densities.

        Asked when an epoch begins or is resumed, and before an evaluation, then with the
        evaluated copy of the network. Asking twice must change nothing.
        """

    def before_epoch(self, moment: Moment) -> None:
        """Before the first batch of an epoch, never again when it is resumed."""

    def after_epoch(self, moment: Moment) -> None:
        """After the last batch of an epoch, before its evaluation."""

    def finish(self, moment: Moment) -> nn.Module:
        """After the last epoch, with the network that is the result; returns what is kept of it."""
        return moment.module
