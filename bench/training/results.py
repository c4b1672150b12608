"""Networks that were trained, and RESULTS.md.

Each folder of a finished run that is named goes into the repository: description, log and, unless
they are too large, weights. Then RESULTS.md is written from the descriptions alone.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.training.text import results_text
from bench.training.trials import rows
from headgate.device.files import atomic_write
from headgate.errors import ModelError
from headgate.train.checkpoints import describe, load_checkpoint, rounded, save_checkpoint
from headgate.train.history import CSV_NAME
from headgate.train.loop import RESULT_NAME
from headgate.train.outcome import measure
from headgate.train.problem import load_problem
from headgate.train.recipe import recipe_from

TRAIN = Path("train")
LARGEST_BYTES = 8_000_000  # weights above that do not travel with the package
CPU = torch.device("cpu")
ACCURACY_LOST = 5e-4  # 5 of 10,000 images: half precision may not cost more


def ship(run: Path, half: bool = False) -> str:
    """Copies a finished run's description, log and weights into the package; returns its name.

    Of weights above :data:`LARGEST_BYTES`, and of a frozen twin, which is there to be compared
    with, only the description is kept, beside the log.

    Args:
        run: the folder of the run.
        half: convolution and linear weights in half precision; accuracy and MACs are measured
            again with them.

    Raises:
        ModelError: an accuracy that half precision would spoil.
    """
    described = describe(run) | {"log": f"train/logs/{describe(run)['name']}.csv"}
    module = load_checkpoint(run).module
    if half:
        described |= _measured_in_half(module, described)
    name = described["name"]
    write(TRAIN / "logs" / f"{name}.csv", (run / CSV_NAME).read_bytes())
    size = (run / RESULT_NAME).stat().st_size // (2 if half else 1)
    if size > LARGEST_BYTES or described.get("twin_of"):
        text = json.dumps(described, indent=1, sort_keys=True) + "\n"
        write(TRAIN / "logs" / f"{name}.json", text.encode())
    else:
        save_checkpoint(TRAIN / "checkpoints" / f"{name}.safetensors", module, described, half)
    return name


def measure_again(name: str) -> None:
    """Writes into a shipped checkpoint's description what is measured of such networks today."""
    path = TRAIN / "checkpoints" / f"{name}.json"
    described = describe(path)
    recipe = recipe_from(described["recipe"])
    measured = measure(recipe, load_checkpoint(path).module, load_problem(recipe, CPU))
    text = json.dumps(described | measured, indent=1, sort_keys=True) + "\n"
    write(path, text.encode())


def _measured_in_half(module: nn.Module, described: dict[str, Any]) -> dict[str, Any]:
    """What the description says with rounded weights."""
    recipe = recipe_from(described["recipe"])
    problem = load_problem(recipe, CPU)
    stored = copy.deepcopy(module)
    stored.load_state_dict({name: rounded(t) for name, t in module.state_dict().items()})
    measured = measure(recipe, stored, problem)
    lost = described["test_accuracy"] - measured["test_accuracy"]
    if lost > ACCURACY_LOST:
        raise ModelError(
            f"{described['name']} loses {lost:.2%} of accuracy in half precision, more than "
            f"{ACCURACY_LOST:.2%}: ship it without --half"
        )
    return measured | {"weights": "float16"}


def all_results() -> dict[str, dict[str, Any]]:
    """The descriptions of every network trained, by name: those shipped and the large ones."""
    paths = [*(TRAIN / "checkpoints").glob("*.json"), *(TRAIN / "logs").glob("*.json")]
    return {path.stem: describe(path) for path in sorted(paths, key=lambda path: path.stem)}


def results() -> str:
    """RESULTS.md."""
    return results_text(all_results(), rows())


def write(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)
