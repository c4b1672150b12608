"""The description of a finished run: accuracy, arithmetic, time, place."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from headgate.device.agent.context import cpu_model
from headgate.device.agent.system import System
from headgate.train.data.augment import to_network_input
from headgate.train.evaluate import accuracy, batch_size
from headgate.train.gates.cgnet import CHANNEL_TILE, PIXEL_TILE
from headgate.train.gates.layer import gates
from headgate.train.history import CSV_NAME
from headgate.train.image_dependence import image_dependence
from headgate.train.macs import MacCount, count_macs
from headgate.train.models import create_model
from headgate.train.network import gating_of, pruning_of
from headgate.train.problem import Problem
from headgate.train.pruning import kept_channels
from headgate.train.recipe import Recipe
from headgate.train.state import Position
from headgate.train.twin import twin_of

# Enough for a mean; of large images fewer, so that together they stay below so many pixels.
COUNTED_IMAGES = 1000
COUNTED_PIXELS = 1 << 24


def describe_result(
    recipe: Recipe,
    module: nn.Module,
    position: Position,
    problem: Problem,
    accelerator: Accelerator,
) -> dict[str, Any]:
    """The JSON that goes beside a checkpoint's weights."""
    return {
        "name": recipe.name,
        "architecture": recipe.model,
        "model_options": recipe.model_options,
        "num_classes": len(problem.classes),
        "classes": list(problem.classes),
        "gate": gating_of(recipe),
        "pruning": pruning_of(recipe, module),
        "twin_of": twin_of(recipe),
        "quantization": _quantization(recipe, position),
        "preprocess": {"mean": problem.preprocess.mean, "std": problem.preprocess.std},
        **measure(recipe, module, problem),
        "recipe": asdict(recipe),
        "seed": recipe.seed,
        "epochs": recipe.epochs,
        "hours": round(position.total_seconds / 3600, 4),
        "hardware": hardware(accelerator),
        "versions": {name: version(name) for name in ("torch", "accelerate", "numpy")},
        "log": CSV_NAME,
    }


def _quantization(recipe: Recipe, position: Position) -> dict[str, Any] | None:
    """What the network was fine-tuned for, and its accuracy with that rounding."""
    if not recipe.quantize:
        return None
    return {"dtype": recipe.quantize, "test_accuracy": position.rows[-1]["test_accuracy"]}


def measure(recipe: Recipe, module: nn.Module, problem: Problem) -> dict[str, Any]:
    """Accuracy in float32 over the whole test set, and MACs per image.

    Executed MACs are a mean over the first :data:`COUNTED_IMAGES` test images, with the extremes
    and percentiles of single ones; of pixel gates also the mean in a kernel's tiles. Over the same
    images it is measured how much the masks of a gated network depend on the image.
    """
    right = accuracy(module, problem.test_images, problem.test_labels, problem.preprocess)
    counted = batch_size(problem.test_images, COUNTED_IMAGES, COUNTED_PIXELS)
    images = to_network_input(problem.test_images[:counted], problem.preprocess)
    macs = count_macs(module, images[:1], images)
    dense = macs.dense
    if kept_channels(module):
        whole = create_model(recipe.model, len(problem.classes), **recipe.model_options)
        dense = count_macs(whole, images[:1]).dense
    return {
        "test_accuracy": right,
        "test_images": len(problem.test_images),
        "dynamics": image_dependence(module, problem, images) if gates(module) else None,
        "macs": {
            "dense": dense,
            "executed": round(macs.executed),
            **_in_tiles(module, images, macs),
            **_spread(macs.executed_per_image),
            "gate": macs.gate,
            "images": len(images),
            "convention": macs.convention,
        },
    }


def _in_tiles(module: nn.Module, images: Tensor, macs: MacCount) -> dict[str, Any]:
    if "pixel_gated_conv2d" not in macs.by_operator:
        return {}
    tile = (CHANNEL_TILE, PIXEL_TILE)
    executed = count_macs(module, images[:1], images, pixel_tile=tile).executed
    return {"executed_in_tiles": round(executed), "tile": list(tile)}


def _spread(executed: Tensor) -> dict[str, int]:
    shares = {"min": 0.0, "p5": 0.05, "p50": 0.5, "p95": 0.95, "max": 1.0}
    wanted = torch.tensor(list(shares.values()), dtype=torch.float64)
    found = executed.double().quantile(wanted, interpolation="nearest")
    return {f"executed_{name}": int(n) for name, n in zip(shares, found.tolist(), strict=True)}


def hardware(accelerator: Accelerator) -> str:
    """One line: how many of which processor trained."""
    count = accelerator.num_processes
    if accelerator.device.type == "cuda":
        return f"{count} x {torch.cuda.get_device_name(accelerator.device)}"
    cpu = cpu_model(System())
    name = cpu if isinstance(cpu, str) else platform.processor() or platform.machine()
    threads = f"{count} process(es) of {torch.get_num_threads()} threads"
    return f"{name}, {os.cpu_count()} cores, {threads}"
