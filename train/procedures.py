"""Which procedures a recipe's methods train by."""

from __future__ import annotations

from inspect import signature

from headgate.errors import RecipeError, suggest
from headgate.train.gates import METHODS
from headgate.train.gates.stages import DensityStages
from headgate.train.procedure import Procedure
from headgate.train.recipe import Recipe


def find_procedures(recipe: Recipe) -> list[Procedure]:
    """The procedures of the recipe's methods, in the order they are asked.

    Raises:
        RecipeError: an option that the method's procedure does not take.
    """
    found: list[Procedure] = []
    if recipe.gate in METHODS:
        made = METHODS[recipe.gate].procedure or DensityStages
        known = signature(made).parameters
        for option in recipe.gate_training:
            if option not in known:
                raise RecipeError(
                    f"recipe: gate_training of {recipe.gate!r} has no option {option!r}."
                    f"{suggest(option, known)}"
                )
        found.append(made(**recipe.gate_training))
    return found
