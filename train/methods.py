"""Finds the procedures that a recipe's methods train by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.device.schema import Mismatch, decode
from headgate.errors import RecipeError, suggest
from headgate.train import gates, pruning
from headgate.train.gates.stages import DensityStages
from headgate.train.procedure import Procedure
from headgate.train.recipe import Recipe


def find_procedures(recipe: Recipe) -> list[Procedure]:
    """The procedures of the recipe's methods, in the order they are asked.

    Raises:
        RecipeError: an unknown pruning method, an option that a method's procedure does not take,
            or a value that it does not take.
    """
    found: list[Procedure] = []
    if recipe.prune:
        if recipe.prune not in pruning.METHODS:
            hint = suggest(recipe.prune, pruning.METHODS)
            raise RecipeError(f"recipe: prune = {recipe.prune!r} is unknown.{hint}")
        made = pruning.METHODS[recipe.prune]
        found.append(_make(made, "prune_options", recipe.prune_options))
    if recipe.gate in gates.METHODS:
        made = gates.METHODS[recipe.gate].procedure or DensityStages
        found.append(_make(made, "gate_training", recipe.gate_training))
    return found


def _make(made: type[Procedure], key: str, options: Mapping[str, Any]) -> Procedure:
    try:
        return decode(made, options, key, strict=True)
    except Mismatch as error:
        raise RecipeError(f"recipe: {error}") from error
