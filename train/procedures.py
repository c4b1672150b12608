"""Which procedures a recipe's methods train by."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

from headgate.errors import RecipeError, suggest
from headgate.train import gates, pruning
from headgate.train.gates.stages import DensityStages
from headgate.train.procedure import Procedure
from headgate.train.recipe import Recipe


def find_procedures(recipe: Recipe) -> list[Procedure]:
    """The procedures of the recipe's methods, in the order they are asked.

    Raises:
        RecipeError: an unknown pruning method, an option that a method's procedure does not take.
    """
    found: list[Procedure] = []
    if recipe.prune:
        if recipe.prune not in pruning.METHODS:
            hint = suggest(recipe.prune, pruning.METHODS)
            raise RecipeError(f"recipe: prune = {recipe.prune!r} is unknown.{hint}")
        made = pruning.METHODS[recipe.prune]
        found.append(_make(made, f"prune_options of {recipe.prune!r}", recipe.prune_options))
    if recipe.gate in gates.METHODS:
        made = gates.METHODS[recipe.gate].procedure or DensityStages
        found.append(_make(made, f"gate_training of {recipe.gate!r}", recipe.gate_training))
    return found


def _make(made: type[Procedure], what: str, options: Mapping[str, Any]) -> Procedure:
    known = signature(made).parameters
    for option in options:
        if option not in known:
            raise RecipeError(f"recipe: {what} has no option {option!r}.{suggest(option, known)}")
    return made(**options)
