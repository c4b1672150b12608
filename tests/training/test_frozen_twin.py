"""The frozen twin of a gated network: trained alike, with one mask for all images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from headgate.cli import main
from headgate.errors import RecipeError
from headgate.train import loop
from headgate.train.checkpoints import describe, load_checkpoint
from headgate.train.gates import gate_statistics
from headgate.train.gates.frozen import channel_places
from headgate.train.history import read_csv
from headgate.train.network import make
from headgate.train.problem import TrainingImages, load_problem
from headgate.train.recipe import recipe_from
from headgate.train.twin import RANKING_IMAGES, twin_recipe

TINY = {
    "name": "tiny",
    "dataset": "synthetic",
    "epochs": 2,
    "batch_size": 64,
    "limit_train": 256,
    "limit_test": 64,
    "checkpoint_batches": 2,
    "ema_decay": 0.9,
    "clip_norm": 5.0,
    "gate": "fbs",
    "gate_layers": ["block-inner"],
    "gate_options": {"predictor_std": 2.0},
    "density": 0.5,
    "density_schedule": [[0, 0.75], [1, 0.5]],
}


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run whose masks depend on the image."""
    folder = tmp_path_factory.mktemp("gated")
    loop.train(recipe_from(TINY), folder)
    return folder


@pytest.fixture(scope="module")
def twin(gated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its finished twin."""
    folder = tmp_path_factory.mktemp("twin")
    assert main(["train", str(gated), "--frozen-twin", "--out", str(folder), "--json"]) == 0
    return folder


def test_a_twin_says_of_what_and_repeats_the_recipe(gated: Path, twin: Path) -> None:
    described, source = describe(twin), describe(gated)
    assert described["name"] == "tiny-twin"
    assert described["twin_of"] == {"name": "tiny", "sha256": source["sha256"]}
    assert source["twin_of"] is None
    changed = {k for k, v in described["recipe"].items() if source["recipe"][k] != v}
    assert changed == {"name", "twin_of"}
    assert [row["density"] for row in read_csv(twin / "log.csv")] == [0.75, 0.5]


def test_a_twin_has_the_masks_that_are_most_frequent_and_costs_the_same(
    gated: Path, twin: Path
) -> None:
    problem = load_problem(recipe_from(describe(gated)["recipe"]), torch.device("cpu"))
    images = TrainingImages(problem, RANKING_IMAGES)
    dynamic = load_checkpoint(gated).module
    places = channel_places(dynamic, images)
    assert sum(s.dynamics().dynamic for s in gate_statistics(dynamic).values()) > 0

    frozen = load_checkpoint(twin).module
    frozen(next(iter(images)))
    for path, statistics in gate_statistics(frozen).items():
        wanted = places[path] < statistics.mask.shape[1] // 2
        assert torch.equal(statistics.mask, wanted.expand_as(statistics.mask))
    assert describe(twin)["macs"]["executed"] == pytest.approx(
        describe(gated)["macs"]["executed"], rel=0.01
    )


def test_descriptions_tell_a_dynamic_network_from_its_twin(gated: Path, twin: Path) -> None:
    dynamic, frozen = describe(gated)["dynamics"], describe(twin)["dynamics"]
    assert dynamic["channels"] == frozen["channels"] == 112
    assert dynamic["dynamic"] > 0
    assert max(layer["masks"] for layer in dynamic["layers"].values()) > 1
    assert (frozen["dynamic"], frozen["information"]) == (0, 0.0)
    assert {layer["masks"] for layer in frozen["layers"].values()} == {1}
    assert frozen["frozen_test_accuracy"] == describe(twin)["test_accuracy"]


def test_a_twin_stopped_in_mid_epoch_resumes_bit_for_bit(
    gated: Path, twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, seen = loop.Run._step, []

    def deadly(run: loop.Run, *batch: Tensor) -> None:
        seen.append(run.position.batch)
        if len(seen) == 8:
            raise KeyboardInterrupt
        step(run, *batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop.Run, "_step", deadly)
        loop.train(twin_recipe(gated), tmp_path)
    loop.train(twin_recipe(gated), tmp_path, resume=True)
    assert (tmp_path / loop.RESULT_NAME).read_bytes() == (twin / loop.RESULT_NAME).read_bytes()


def test_what_has_no_twin_is_refused(gated: Path, twin: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="'resnet8' has no gates"):
        twin_recipe("resnet8")
    with pytest.raises(RecipeError, match="is a frozen twin itself: name 'tiny'"):
        twin_recipe(twin)
    with pytest.raises(RecipeError, match="start from 'tiny' instead"):
        make(recipe_from(TINY | {"start_from": str(twin)}))
    with pytest.raises(RecipeError, match="but the recipe says"):
        loop.train(recipe_from(TINY | {"twin_of": str(gated), "gate_options": {}}), tmp_path)
    with pytest.raises(RecipeError, match=r"'resnet8-cgnet-1\.35x': .*gates pixels"):
        loop.train(twin_recipe("resnet8-cgnet-1.35x", ["dataset=synthetic"]), tmp_path)
