"""Which procedures a recipe's methods train by."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any, get_type_hints

from headgate.errors import RecipeError, suggest
from headgate.train import gates, pruning
from headgate.train.gates.stages import DensityStages
from headgate.train.procedure import Procedure
from headgate.train.recipe import Recipe, check_type


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
        found.append(_make(made, recipe.prune, "prune_options", recipe.prune_options))
    if recipe.gate in gates.METHODS:
        made = gates.METHODS[recipe.gate].procedure or DensityStages
        found.append(_make(made, recipe.gate, "gate_training", recipe.gate_training))
    return found


def _make(made: type[Procedure], method: str, key: str, options: Mapping[str, Any]) -> Procedure:
    known = signature(made).parameters
    types = get_type_hints(made.__init__)
    for option, value in options.items():
        if option not in known:
            raise RecipeError(
                f"recipe: {key} of {method!r} has no option {option!r}.{suggest(option, known)}"
            )
        check_type(f"{key}.{option}", value, types[option])
    return made(**options)
