"""The network and the optimiser that a recipe asks for."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from headgate.errors import RecipeError
from headgate.train.checkpoints import add_gates, describe, load_checkpoint
from headgate.train.gates import gates, set_density
from headgate.train.models import create_model, option_types
from headgate.train.pruning import add_masks, choose_layers, kept_channels
from headgate.train.recipe import Recipe, check_type


def make(recipe: Recipe, num_classes: int = 10) -> nn.Module:
    """The recipe's network in training mode: fresh or from a checkpoint, gated or masked.

    Raises:
        RecipeError: a checkpoint of another network, or gated in another way; an option of the
            network with a value of another type.
    """
    for option, kind in option_types(recipe.model).items():
        if option in recipe.model_options:
            check_type(f"model_options.{option}", recipe.model_options[option], kind)
    if not recipe.start_from:
        module = create_model(recipe.model, num_classes, **recipe.model_options)
        return _prepare(module, recipe)
    described = describe(recipe.start_from)
    said = f"recipe: start_from = {recipe.start_from!r}"
    if (model := described["architecture"]) != recipe.model:
        raise RecipeError(f"{said} is a {model}, but model = {recipe.model!r}")
    if (options := described["model_options"]) != recipe.model_options:
        raise RecipeError(f"{said} was made with model_options = {options}: ask for the same")
    if (classes := described["num_classes"]) != num_classes:
        raise RecipeError(
            f"{said} tells {classes} classes apart, but the data set has {num_classes}"
        )
    module = load_checkpoint(recipe.start_from).module.train()
    if described.get("twin_of"):
        raise RecipeError(
            f"{said} is a frozen twin, whose masks do not follow the image: start from "
            f"{described['twin_of']['name']!r} instead"
        )
    there, wanted = described["gate"], gating_of(recipe)
    if there is None:
        return _prepare(module, recipe)
    if wanted is None or there | {"density": recipe.density} != wanted:
        raise RecipeError(
            f"{said} is gated with gate = {there['method']!r}, gate_layers = {there['layers']}, "
            f"gate_options = {there['options']}: ask for the same"
        )
    set_density(module, recipe.density)
    return module


def _prepare(module: nn.Module, recipe: Recipe) -> nn.Module:
    if recipe.prune:
        return add_masks(module, choose_layers(module, recipe.prune_layers).values())
    gating = gating_of(recipe)
    return module if gating is None else add_gates(module, gating)


def gating_of(recipe: Recipe) -> dict[str, Any] | None:
    """The "gate" entry of the recipe's result."""
    if not recipe.gate:
        return None
    return {
        "method": recipe.gate,
        "density": recipe.density,
        "layers": recipe.gate_layers,
        "options": recipe.gate_options,
    }


def pruning_of(recipe: Recipe, module: nn.Module) -> dict[str, Any] | None:
    """The "pruning" entry of the recipe's result, None if it was not shrunk, now or before."""
    if not (channels := kept_channels(module)):
        return None
    method = recipe.prune or describe(recipe.start_from)["pruning"]["method"]
    return {"method": method, "channels": channels}


def make_optimizer(recipe: Recipe, module: nn.Module) -> torch.optim.SGD:
    """SGD with the L2 penalty on matrices and kernels only, unless the recipe says on all."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in module.parameters():
        (decayed if recipe.decay_all or parameter.ndim > 1 else plain).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(
        groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov
    )


def kept_share(module: nn.Module) -> float:
    """Mean over the gated layers of the share computed in the last forward."""
    last = [layer.last_gate for layer in gates(module).values() if layer.last_gate is not None]
    return float(torch.stack([torch.count_nonzero(gate) / gate.numel() for gate in last]).mean())
