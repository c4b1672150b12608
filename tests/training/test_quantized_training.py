"""Fine-tuning with the rounding of int8: what it rounds, and that it resumes to the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from headgate.errors import RecipeError
from headgate.train import loop
from headgate.train.checkpoints import load_checkpoint
from headgate.train.history import read_csv
from headgate.train.recipe import recipe_from
from tests.killed_training import train_until_killed

TINY: dict[str, Any] = {
    "dataset": "synthetic",
    "epochs": 2,
    "batch_size": 32,
    "limit_train": 160,
    "limit_test": 33,
    "learning_rate": 0.01,
    "checkpoint_batches": 2,
    "clip_norm": 5.0,
    "quantize": "int8",
}
GATES: dict[str, dict[str, Any]] = {
    "resnet8": {},
    "resnet8-fbs-0.5": {"gate": "fbs", "density": 0.5},
    "resnet8-dcp-0.5": {"gate": "dcp", "density": 0.5, "gate_training": {"calibration_images": 64}},
}


def recipe_of(start: str, **changes: Any) -> dict[str, Any]:
    gated = {"gate_layers": ["block-inner"]} if GATES[start] else {}
    return TINY | GATES[start] | gated | {"start_from": start} | changes


@pytest.mark.parametrize("start", GATES)
def test_killed_in_mid_epoch_it_ends_with_the_same_bits(start: str, tmp_path: Path) -> None:
    recipe = recipe_from(recipe_of(start, ema_decay=0.9))
    loop.train(recipe, tmp_path / "whole")
    # 5 batches an epoch, saved every 2: the ninth step was the fourth of the second epoch.
    assert train_until_killed(recipe, tmp_path / "killed", 9) == (1, 2)
    loop.train(recipe, tmp_path / "killed", resume=True)
    results = [(tmp_path / name / loop.RESULT_NAME).read_bytes() for name in ("whole", "killed")]
    assert results[0] == results[1]


def test_the_result_is_an_ordinary_checkpoint_whose_weights_have_moved(tmp_path: Path) -> None:
    path = loop.train(recipe_from(recipe_of("resnet8-fbs-0.5", epochs=1)), tmp_path)
    described = json.loads(path.with_suffix(".json").read_text())
    (row,) = read_csv(tmp_path / "log.csv")
    accuracy = pytest.approx(row["test_accuracy"], abs=1e-5)
    assert described["quantization"] == {"dtype": "int8", "test_accuracy": accuracy}
    before, after = (
        load_checkpoint(name).module.state_dict() for name in ("resnet8-fbs-0.5", path)
    )
    assert before.keys() == after.keys() == safetensors.torch.load_file(path).keys()
    for key, tensor in before.items():
        moved = not torch.equal(tensor, after[key])
        assert moved == ("running" not in key and "num_batches" not in key), key


def test_pixel_gates_train_beside_codes(tmp_path: Path) -> None:
    gate = {
        "gate": "cgnet",
        "gate_options": {"partitions": 4, "separate_norms": True, "block": [8, 16], "start": -3.0},
        "gate_training": {"target": 0.0},
        "gate_penalty": 0.0,
    }
    table = TINY | gate | {"start_from": "resnet8-cgnet-1.35x", "epochs": 1}
    assert loop.train(recipe_from(table), tmp_path).is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantize": "int4"}, "quantize = 'int4', but must be 'int8', or empty"),
        ({"precision": "bf16"}, "precision = 'bf16', but must be 'no' with quantize"),
        ({"prune": "frs", "prune_options": {"channels": 8}}, "prune = 'frs', but must be empty"),
        (
            {"gate": "fbs", "density": 0.5, "density_schedule": [[0, 0.5]]},
            "density_schedule = .*, but must be empty with quantize",
        ),
    ],
)
def test_what_does_not_go_along_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe_from(recipe_of("resnet8") | changes)


def test_without_a_trained_network_there_is_nothing_to_fine_tune(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="fine-tunes a trained network; start_from names"):
        loop.train(recipe_from(TINY), tmp_path)
