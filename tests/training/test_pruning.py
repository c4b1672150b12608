"""Pruning while training: cost, schedule, resuming, checkpoints, options."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from headgate.errors import RecipeError, UsageError
from headgate.train import loop
from headgate.train.checkpoints import build, describe, load_checkpoint
from headgate.train.gates import gates
from headgate.train.macs import count_macs
from headgate.train.methods import find_procedures
from headgate.train.models import create_model
from headgate.train.network import make
from headgate.train.pruning import (
    FeatureRelevancePruning,
    choose_layers,
    kept_channels,
)
from headgate.train.pruning.masks import masked_norms
from headgate.train.recipe import Recipe, load_recipe, recipe_from
from tests.killed_training import train_until_killed

TINY = {
    "dataset": "synthetic",
    "epochs": 3,
    "batch_size": 64,
    "limit_train": 320,
    "limit_test": 64,
    "warmup_epochs": 0.5,
    "checkpoint_batches": 2,
    "ema_decay": 0.9,
    "clip_norm": 5.0,
    "prune": "frs",
    "prune_options": {"target_macs": 0.6, "until_epoch": 2, "images": 40},
}


def dense_macs() -> int:
    return count_macs(create_model("resnet8"), torch.zeros(1, 3, 32, 32)).dense


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run that was pruned to 0.6 of its MACs."""
    folder = tmp_path_factory.mktemp("pruned")
    loop.train(recipe_from(TINY), folder)
    return folder


def test_a_run_ends_at_the_wanted_cost_and_loads_as_a_smaller_network(pruned: Path) -> None:
    described = describe(pruned)
    macs = described["macs"]
    assert macs["dense"] == dense_macs()
    assert 0.57 * macs["dense"] < macs["executed"] <= 0.6 * macs["dense"]
    module, stated, _ = load_checkpoint(pruned)
    assert count_macs(module, torch.zeros(1, 3, 32, 32)).dense == macs["executed"]
    assert stated == described["test_accuracy"] > 0.2
    assert described["pruning"]["method"] == "frs"
    assert described["pruning"]["channels"] == kept_channels(module)
    assert set(kept_channels(module)) == set(choose_layers(create_model("resnet8")))


def test_a_pruned_network_can_be_pruned_further(pruned: Path, tmp_path: Path) -> None:
    options = {"target_macs": 0.4, "until_epoch": 1, "images": 40}
    table = TINY | {"start_from": str(pruned), "epochs": 2, "prune_options": options}
    loop.train(recipe_from(table), tmp_path)
    macs = describe(tmp_path)["macs"]
    assert macs["dense"] == dense_macs()
    assert macs["executed"] <= 0.4 * macs["dense"]
    before = describe(pruned)["pruning"]["channels"]
    for path, channels in describe(tmp_path)["pruning"]["channels"].items():
        assert set(channels) <= set(before[path])
    load_checkpoint(tmp_path)


def test_a_pruned_network_can_be_trained_on_and_gated(pruned: Path, tmp_path: Path) -> None:
    table = {k: v for k, v in TINY.items() if not k.startswith("prune")}
    table |= {"start_from": str(pruned), "epochs": 1}
    table |= {"gate": "fbs", "gate_layers": ["block-inner"], "density": 0.5}
    loop.train(recipe_from(table), tmp_path)
    described = describe(tmp_path)
    assert described["pruning"] == describe(pruned)["pruning"]
    assert described["macs"]["executed"] < describe(pruned)["macs"]["executed"]
    assert described["macs"]["dense"] == dense_macs()
    assert len(gates(load_checkpoint(tmp_path).module)) == 3
    assert (
        build(described).state_dict().keys() == load_checkpoint(tmp_path).module.state_dict().keys()
    )


def test_channels_go_at_the_papers_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scores(module: nn.Module, paths: list[str], *_: object) -> dict[str, Tensor]:
        norms = masked_norms(module)
        return {path: torch.linspace(0, 1, norms[path].num_features) for path in paths}

    monkeypatch.setattr("headgate.train.pruning.frs.feature_relevance_scores", scores)
    counts = []

    def watch(self: loop.Run, history: object) -> None:
        counts.append(sum(int(n.kept.sum()) for n in masked_norms(self.module).values()))
        end(self, history)

    end = loop.Run._end_epoch
    monkeypatch.setattr(loop.Run, "_end_epoch", watch)
    options = {"channels": 10, "every_epochs": 2, "until_epoch": 5, "min_channels": 3}
    table = TINY | {"epochs": 7, "limit_train": 64, "prune_options": options}
    loop.train(recipe_from(table), tmp_path)
    assert counts == [224, 224, 214, 214, 204, 204, 204]


def test_a_pruned_run_killed_in_mid_epoch_resumes_bit_for_bit(pruned: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    # Pruned once, in the middle of the second of three epochs.
    assert train_until_killed(recipe_from(TINY), folder, 9) == (1, 2)
    loop.train(recipe_from(TINY), folder, resume=True)
    ours, theirs = ((at / loop.RESULT_NAME).read_bytes() for at in (folder, pruned))
    assert ours == theirs
    assert describe(folder)["pruning"] == describe(pruned)["pruning"]


def test_a_cost_that_cannot_be_reached_is_refused(tmp_path: Path) -> None:
    options = {"target_macs": 0.5, "images": 20, "min_channels": 14}
    table = TINY | {"epochs": 2, "limit_train": 64, "prune_options": options}
    with pytest.raises(RecipeError, match=r"target_macs = 0\.5 cannot be reached: [\d,]+ MACs"):
        loop.train(recipe_from(table | {"prune_layers": ["stage1.*"]}), tmp_path)


def test_mixed_precision_does_not_reach_the_scores(tmp_path: Path) -> None:
    table = TINY | {"precision": "bf16", "epochs": 2, "limit_train": 128}
    table["prune_options"] = {"channels": 8, "images": 20}
    loop.train(recipe_from(table), tmp_path)
    left = describe(tmp_path)["pruning"]["channels"]
    assert sum(map(len, left.values())) == 224 - 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "need one of channels"),
        ({"channels": 3, "target_macs": 0.5}, "need one of channels"),
        ({"channels": 3, "every_epoch": 2}, "unknown key 'every_epoch'.*'every_epochs'"),
        ({"target_macs": 1.5}, "target_macs is 1.5, not a share of at least 0 and below 1"),
        ({"channels": 3, "every_epochs": 5, "until_epoch": 4}, "not at least every_epochs"),
        ({"channels": 3, "absolute": "image"}, "absolute is 'image', which is unknown.*'images'"),
        ({"channels": "3"}, "prune_options.channels is '3', not a whole number"),
        ({"channels": 3, "min_channels": 0}, "min_channels is 0, not a whole number of at least 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        find_procedures(Recipe(prune="frs", prune_options=options))


def test_recipes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"prune = 'fsr' is unknown.*'frs'"):
        find_procedures(Recipe(prune="fsr"))
    with pytest.raises(RecipeError, match="need prune"):
        Recipe(prune_options={"channels": 3})
    with pytest.raises(RecipeError, match="prune and gate cannot train together"):
        Recipe(prune="frs", gate="fbs")
    with pytest.raises(UsageError, match="prune_layers: 'conv9' matches no convolution"):
        make(Recipe(prune="frs", prune_layers=["conv9"], prune_options={"channels": 3}))


def test_the_procedure_follows_the_recipes_options() -> None:
    (procedure,) = find_procedures(load_recipe("resnet110-frs"))
    assert isinstance(procedure, FeatureRelevancePruning)
    assert (procedure.target_macs, procedure.every_epochs, procedure.until_epoch) == (0.44, 21, 150)
