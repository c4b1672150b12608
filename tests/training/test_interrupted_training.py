"""Training of every method that is killed at random, or whose numbers break, loses nothing."""

from __future__ import annotations

import json
import random
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from headgate.errors import TrainingError
from headgate.train import loop, schedule, state
from headgate.train.gates import METHODS
from headgate.train.gates.layer import gates
from headgate.train.history import read_csv
from headgate.train.pruning import METHODS as PRUNING
from headgate.train.recipe import Recipe, recipe_from, to_toml
from tests.killed_training import command, start

COMMON = {
    "dataset": "synthetic",
    "epochs": 4,
    "batch_size": 32,
    "limit_train": 192,
    "limit_test": 32,
    "warmup_epochs": 0.5,
    "checkpoint_batches": 3,
    "ema_decay": 0.9,
    "clip_norm": 5.0,
}
STAGES = {"density": 0.5, "density_schedule": [[0, 1.0], [1, 0.8], [2, 0.5]]}
# What changes from epoch to epoch is at work in each: densities, noise, thresholds, targets, masks.
RECIPES: dict[str, dict[str, Any]] = {
    "fbs": STAGES
    | {
        "gate": "fbs",
        "gate_layers": ["block-inner"],
        "gate_options": {"relative": 0.5, "standardize": True, "straight_through": True},
        "gate_training": {"noise": 0.5, "noise_epochs": 3.0},
        "gate_loss": "moe",
        "gate_penalty": 0.01,
    },
    "dcp": STAGES
    | {
        "gate": "dcp",
        "gate_layers": ["block-inner"],
        "gate_options": {"straight_through": True},
        "gate_training": {
            "layer_epochs": 0.3,
            "calibration_images": 100,
            "noise": 0.5,
            "noise_epochs": 3.0,
        },
        "gate_loss": "hardness",
        "gate_penalty": 0.5,
    },
    "cgnet": {
        "gate": "cgnet",
        "gate_layers": ["block-inner"],
        "gate_options": {"partitions": 2, "separate_norms": True, "block": [4, 16]},
        "gate_training": {"target": 0.5, "schedule": [[0, 0.0], [2, 0.5]]},
        "gate_penalty": 1e-3,
    },
    "frs": {
        "prune": "frs",
        "prune_options": {"target_macs": 0.6, "until_epoch": 3, "images": 100},
    },
}
methods = pytest.mark.parametrize("method", RECIPES)


def test_every_method_is_here() -> None:
    assert set(RECIPES) == {*METHODS, *PRUNING}


def recipe_of(method: str) -> Recipe:
    return recipe_from(COMMON | RECIPES[method])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder of the run of a method that nothing happened to."""
    made: dict[str, Path] = {}

    def run(method: str) -> Path:
        if method not in made:
            made[method] = tmp_path_factory.mktemp(method)
            loop.train(recipe_of(method), made[method])
        return made[method]

    return run


def same_result(one: Path, other: Path) -> bool:
    rows = [read_csv(folder / "log.csv") for folder in (one, other)]
    for row in (*rows[0], *rows[1]):
        del row["seconds"]
    weights = [(folder / loop.RESULT_NAME).read_bytes() for folder in (one, other)]
    return rows[0] == rows[1] and weights[0] == weights[1]


def position(folder: Path) -> tuple[int, int]:
    """Epoch and batch of the state in ``folder``; (0, 0) without one."""
    try:
        found = json.loads((folder / state.JSON_NAME).read_text())["position"]
    except FileNotFoundError:
        return 0, 0
    return found["epoch"], found["batch"]


@methods
def test_killed_at_random_moments_it_ends_with_the_same_weights(
    method: str, whole: Any, tmp_path: Path
) -> None:
    source, folder = tmp_path / "recipe.toml", tmp_path / "run"
    source.write_text(to_toml(recipe_of(method)))
    arguments = ["train", str(source), "--out", str(folder), "--resume"]
    moments = random.Random(method)
    kills = 0
    for _ in range(2):
        before = position(folder)
        running = start(command, *arguments)
        # Until it has got anywhere, or a little longer.
        while running.is_alive() and position(folder) == before:
            time.sleep(0.01)
        time.sleep(moments.uniform(0.0, 0.8))
        running.kill()
        running.join()
        kills += running.exitcode == -signal.SIGKILL
    assert kills >= 1
    last = start(command, *arguments)
    last.join()
    assert last.exitcode == 0
    assert same_result(folder, whole(method))


# The parameter that decides, or is decided on, in each method.
DECIDES = {"fbs": "predictor.weight", "dcp": "predictor.bias", "cgnet": "threshold"}


def deciding(method: str, module: nn.Module) -> tuple[str, Tensor]:
    """Path of a layer in the middle of the network, and that parameter of it."""
    if method in DECIDES:
        path, layer = list(gates(module).items())[1]
        return path, layer.get_parameter(DECIDES[method])
    return "stage2.0.conv1", module.get_parameter("stage2.0.conv1.weight")


@pytest.fixture
def stops_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Trains in ``tmp_path`` with a part of training replaced, until that stops it: the message."""

    def run(recipe: Recipe, part: Any, name: str, replacement: Any) -> str:
        with monkeypatch.context() as patched:
            patched.setattr(part, name, replacement)
            with pytest.raises(TrainingError) as stopped:
                loop.train(recipe, tmp_path, resume=position(tmp_path) != (0, 0))
        message = str(stopped.value)
        assert re.search("not finite|no longer finite", message)
        assert "\n" not in message
        return message

    return run


@methods
def test_numbers_that_break_name_a_layer_and_the_last_good_state_is_kept(
    method: str, whole: Any, stops_with: Any, tmp_path: Path
) -> None:
    recipe, rate, step = recipe_of(method), schedule.learning_rate, loop.Run._step

    def endless(recipe: Recipe, epoch: float) -> float:
        return rate(recipe, epoch) if epoch < 1.5 else float("inf")

    message = stops_with(recipe, schedule, "learning_rate", endless)
    assert re.search(r"stage|stem|head|fc|conv", message)
    found = state.load_state(tmp_path)
    assert found is not None and found[0].epoch == 1
    assert all(tensor.isfinite().all() for tensor in found[1].values())
    for value in (float("nan"), float("inf")):
        named = []

        def poisoned(
            run: loop.Run,
            images: Tensor,
            labels: Tensor,
            value: float = value,
            named: list[str] = named,
        ) -> None:
            if (run.position.epoch, run.position.batch) == (2, 5):
                path, parameter = deciding(method, run.module)
                named.append(path)
                with torch.no_grad():
                    parameter[1] = value
            step(run, images, labels)

        message = stops_with(recipe, loop.Run, "_step", poisoned)
        assert named[0] in message
        assert position(tmp_path) == (2, 3)
    loop.train(recipe, tmp_path, resume=True)
    assert same_result(tmp_path, whole(method))
