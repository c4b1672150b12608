"""Trials of ways to make gates follow the image: the plan, a trial, and the table."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from bench.training import trials
from headgate.train.methods import find_procedures
from headgate.train.recipe import recipe_from

TINY = {
    "dataset": "synthetic",
    "hold_out": 64,
    "limit_train": 128,
    "limit_test": 64,
    "epochs": 1,
    "batch_size": 64,
    "density_schedule": [],
}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Trials of seconds, whose rows go into a folder of their own."""
    planned = copy.deepcopy(trials.plan())
    planned["dense"] |= {k: v for k, v in TINY.items() if k != "density_schedule"}
    planned["trial"] |= TINY
    monkeypatch.setattr(trials, "plan", lambda: planned)
    monkeypatch.setattr(trials, "HERE", tmp_path)


def test_every_direction_is_a_recipe_judged_by_images_that_were_held_out() -> None:
    planned = trials.plan()
    recipes = {
        name: recipe_from(planned["trial"] | direction.get("options", {}))
        for name, direction in planned["direction"].items()
    }
    assert len(recipes) > 6
    for recipe in [*recipes.values(), recipe_from(planned["dense"])]:
        assert recipe.hold_out == 5000
        find_procedures(recipe)
    assert {recipe.epochs for recipe in recipes.values()} == {planned["trial"]["epochs"]}
    by_share = [recipe for recipe in recipes.values() if recipe.gate != "cgnet"]
    assert {recipe.density for recipe in by_share} == {0.5}
    assert trials.NETWORK in planned["network"]
    for changed in planned["network"].values():
        recipe_from(planned["dense"] | changed.get("dense", {}))
        recipe_from(planned["trial"] | changed.get("trial", {}))


def test_a_trial_trains_a_network_and_its_twin_and_keeps_their_row(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = trials.run("relative", seed=3, with_twin=False, runs=tmp_path / "runs")
    row = trials.run("relative", seed=3, runs=tmp_path / "runs")
    assert alone == row | {"twin_accuracy": None, "hours": alone["hours"]}
    assert row["twin_accuracy"] is not None and row["hours"] >= alone["hours"]
    assert (row["direction"], row["seed"], row["held_out"], row["images"]) == (
        "relative",
        3,
        64,
        128,
    )
    assert 0 < row["dynamic"] <= row["channels"] == 112
    names = {path.parent.name for path in (tmp_path / "runs").glob("resnet8/*/model.json")}
    assert names == {"dense-3", "relative-3", "relative-3-twin"}
    # What is there is not trained again.
    monkeypatch.setattr(trials, "train", None)
    assert trials.run("relative", seed=3, runs=tmp_path / "runs") == row

    trials.keep(row | {"accuracy": 0.25})
    trials.keep(row | {"direction": "fbs"})
    trials.keep(row | {"network": "resnet8-wide"})
    trials.keep(row)
    assert trials.rows() == [row | {"direction": "fbs"}, row, row | {"network": "resnet8-wide"}]
    assert len(json.loads((tmp_path / "trials.json").read_text())) == 3


ROW: dict[str, Any] = {
    "network": "resnet8",
    "direction": "straight-through",
    "seed": 1,
    "accuracy": 0.80,
    "held_out": 5000,
    "images": 20000,
    "channels": 112,
    "dynamic": 28,
    "information": 0.01234,
    "frozen_accuracy": 0.75,
    "twin_accuracy": 0.81,
    "executed_macs": 6_606_208,
    "hours": 0.125,
    "hardware": "a CPU",
}


def test_the_table_has_what_did_not_help_too_and_says_what_waits() -> None:
    alone = ROW | {"direction": "noise", "twin_accuracy": None}
    wide = ROW | {"network": "resnet8-wide", "accuracy": 0.9}
    text = "\n".join(trials.trials_section([ROW, alone, wide]))
    assert text.index("resnet8:\n") < text.index("| 80.00% |") < text.index("resnet8-wide:\n")
    assert text.index("resnet8-wide:\n") < text.index("| 90.00% |")
    assert "| 75.00% | not trained |  | 6.61 M |" in text
    assert "on 20,000 of the training images" in text.replace("\n", " ")
    assert "gradients as if every channel were open | Bengio et al., 2013 | 80.00% |" in text
    assert "| 80.00% | 28 of 112 | 0.0123" in text
    assert "| 75.00% | 81.00% | -1.00 | 6.61 M | 0.12 | 1 |" in text
    assert "Not tried yet: fbs, standardize," in text


def test_an_unknown_direction_is_refused_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["trials", "fbs", "relativ"])
    with pytest.raises(trials.UsageError, match=r"'relativ'\. .*relative"):
        trials.main()
