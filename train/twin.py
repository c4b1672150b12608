"""The frozen twin of a gated network: trained alike, but with one mask for all images.

The twin begins where the network's training began and repeats its recipe: weights, epochs, order
of images and densities. Where the network chooses channels for each image, the twin has the ones
that the finished network opens most often over training images. What the network's accuracy is
above its twin's, at equal arithmetic, is what choosing by the image is worth.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from headgate.errors import ModelError, RecipeError
from headgate.train.checkpoints import describe, load_checkpoint
from headgate.train.gates.frozen import channel_places, freeze
from headgate.train.image_dependence import RANKING_IMAGES
from headgate.train.network import gating_of
from headgate.train.problem import Problem, TrainingImages
from headgate.train.recipe import Recipe, recipe_from


def twin_recipe(checkpoint: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe that ``checkpoint`` was trained by, for its frozen twin.

    Args:
        checkpoint: a shipped name, or the path of a checkpoint or of a run's folder.
        overrides: as for :func:`load_recipe`, for data that lies elsewhere.

    Raises:
        MissingFile: no such checkpoint.
        RecipeError: a checkpoint without gates, or that is a twin itself.
    """
    described = describe(checkpoint)
    said = f"--frozen-twin: {str(checkpoint)!r}"
    if not described["gate"]:
        raise RecipeError(f"{said} has no gates whose masks could be frozen: name a gated one")
    if described.get("twin_of"):
        raise RecipeError(f"{said} is a frozen twin itself: name {described['twin_of']['name']!r}")
    name = f"{described['name']}-twin"
    table = described["recipe"] | {"name": name, "twin_of": str(checkpoint)}
    return recipe_from(table, overrides, origin=str(checkpoint))


def twin_of(recipe: Recipe) -> dict[str, Any] | None:
    """The "twin_of" entry of the recipe's result: the network's name and checksum, or None."""
    if not recipe.twin_of:
        return None
    described = describe(recipe.twin_of)
    return {"name": described["name"], "sha256": described["sha256"]}


def frozen_if_twin(module: nn.Module, recipe: Recipe, problem: Problem) -> nn.Module:
    """``module``; if the recipe is a twin's, with masks frozen as the finished network's are.

    Raises:
        RecipeError: a checkpoint gated in another way than the recipe says, or by pixels.
    """
    if not recipe.twin_of:
        return module
    described, wanted = describe(recipe.twin_of), gating_of(recipe)
    said = f"recipe: twin_of = {recipe.twin_of!r}"
    if wanted is None or described["gate"] != wanted:
        raise RecipeError(f"{said} is gated as {described['gate']}, but the recipe says {wanted}")
    finished = load_checkpoint(recipe.twin_of).module.to(problem.test_labels.device)
    try:
        freeze(module, channel_places(finished, TrainingImages(problem, RANKING_IMAGES)))
    except ModelError as error:
        raise RecipeError(f"{said}: {error}") from error
    return module
