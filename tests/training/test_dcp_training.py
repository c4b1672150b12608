"""DCP: training layer by layer, killed and resumed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from headgate.errors import RecipeError, TrainingError
from headgate.train import loop, state
from headgate.train.checkpoints import describe, load_checkpoint
from headgate.train.data.augment import to_network_input
from headgate.train.evaluate import accuracy
from headgate.train.gates import (
    DCPConv2d,
    FBSConv2d,
    calibrate,
    gate,
    gate_statistics,
    gates,
)
from headgate.train.gates.layer_by_layer import LayerByLayer
from headgate.train.history import read_csv
from headgate.train.macs import count_macs
from headgate.train.methods import find_procedures
from headgate.train.problem import load_problem
from headgate.train.procedure import Moment
from headgate.train.recipe import Recipe, recipe_from
from tests.gated_networks import INNER, dcp_layers, pretrained
from tests.killed_training import train_until_killed

TINY = {
    "dataset": "synthetic",
    "epochs": 4,
    "batch_size": 64,
    "limit_train": 320,
    "limit_test": 64,
    "warmup_epochs": 0.5,
    "checkpoint_batches": 2,
    "ema_decay": 0.9,
    "clip_norm": 5.0,
    "gate": "dcp",
    "gate_layers": [INNER],
    "density": 0.5,
    "density_schedule": [[1, 0.5]],
}


@pytest.mark.parametrize(
    ("schedule", "layer_epochs", "expected"),
    [
        ([[1, 0.8], [4, 0.5]], 1.0, {0: "1 1 1", 1: ".8 1 1", 3: ".8 .8 .8", 5: ".5 .5 .8"}),
        ([[0, 0.7], [2, 0.5]], 1.0, {-1: "1 1 1", 0: ".7 .7 .7", 2: ".5 .7 .7", 9: ".5 .5 .5"}),
        ([[1, 0.5]], 0.4, {0: "1 1 1", 1: ".5 1 1", 2: ".5 .5 .5"}),
        ([[1, 0.8], [2, 0.5]], 1.0, {2: ".5 .8 1", 3: ".5 .5 .8", 4: ".5 .5 .5"}),
        ([], 1.0, {-1: "1 1 1", 0: ".5 .5 .5"}),
    ],
)
def test_layers_take_turns(
    schedule: list[list[float]], layer_epochs: float, expected: dict[int, str]
) -> None:
    recipe = Recipe(gate="dcp", density=0.5, density_schedule=schedule)
    procedure = LayerByLayer(layer_epochs=layer_epochs)
    for epoch, densities in expected.items():
        assert procedure.densities(recipe, epoch, 3) == [float(d) for d in densities.split()]


def test_ten_turns_of_a_tenth_are_an_epoch() -> None:
    recipe = Recipe(gate="dcp", density=0.5, density_schedule=[[1, 0.5]])
    assert LayerByLayer(layer_epochs=0.1).densities(recipe, 2, 11) == [0.5] * 11


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer_epochs": -1}, "gate_training.layer_epochs is -1, not a number of at least 0"),
        ({"layer_epochs": "two"}, "layer_epochs is 'two', not a number"),
        ({"calibration_images": 0}, "calibration_images is 0, not a whole number of at least 1"),
        ({"calibration_images": 1.5}, "calibration_images is 1.5, not a whole number"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        find_procedures(Recipe(gate="dcp", gate_training=options))


def test_turns_after_the_last_epoch_are_refused(tmp_path: Path) -> None:
    table = TINY | {"gate_training": {"layer_epochs": 1.5}}
    with pytest.raises(RecipeError, match=r"last of 3 gated layers at epoch 4, but there are 4"):
        loop.train(recipe_from(table), tmp_path)
    with pytest.raises(RecipeError, match=r"unknown key 'layer_epoch'.*'layer_epochs'"):
        loop.train(recipe_from(TINY | {"gate_training": {"layer_epoch": 1}}), tmp_path)


def test_a_layer_that_moves_gets_its_threshold_from_training_images() -> None:
    recipe = recipe_from(TINY | {"limit_train": 100})
    problem = load_problem(recipe, torch.device("cpu"))
    torch.manual_seed(0)
    module = gate(pretrained(), "dcp", density=0.5, layers=INNER)
    procedure = LayerByLayer(calibration_images=50)
    for layer in dcp_layers(module):
        layer.set_thresholds(torch.zeros(layer.channels))
    for epoch, moved in [(0, False), (1, True), (2, True), (3, True)]:
        before = [layer.thresholds.clone() for layer in dcp_layers(module)]
        moment = Moment(module, recipe, problem, epoch)
        procedure.configure(moment)
        procedure.before_epoch(moment)
        after = [layer.thresholds for layer in dcp_layers(module)]
        assert [m.active < m.channels for m in dcp_layers(module)] == [
            index < epoch for index in range(3)
        ]
        assert (not torch.equal(before[0], after[0])) == (moved and epoch == 1)
    images = to_network_input(problem.train_images[::2], problem.preprocess)
    with torch.no_grad():
        module.eval()(images)
    for statistics in gate_statistics(module).values():
        assert statistics.density == pytest.approx(0.5, abs=2e-3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run that went layer by layer."""
    folder = tmp_path_factory.mktemp("whole")
    loop.train(recipe_from(TINY), folder)
    return folder


def test_the_result_keeps_the_wanted_share_of_the_training_set(whole: Path) -> None:
    described = describe(whole)
    module, stated, preprocess = load_checkpoint(whole)
    problem = load_problem(recipe_from(TINY), torch.device("cpu"))
    assert accuracy(module, problem.test_images, problem.test_labels, preprocess) == stated
    images = to_network_input(problem.train_images, preprocess)
    with torch.no_grad():
        module(images)
    for path, statistics in gate_statistics(module).items():
        assert statistics.density == pytest.approx(0.5, abs=2e-3), path
    macs = described["macs"]
    spread = [macs[f"executed_{name}"] for name in ("min", "p5", "p95", "max")]
    assert sorted(spread) == spread
    assert spread[0] <= macs["executed"] <= spread[-1] <= macs["dense"] + macs["gate"]
    rows = read_csv(whole / "log.csv")
    kept = [row["kept_channels"] for row in rows]
    assert kept[0] == 1.0
    assert kept[1] > kept[2] > kept[3] > 0.3


def test_a_killed_run_resumes_bit_for_bit(whole: Path, tmp_path: Path) -> None:
    recipe = recipe_from(TINY)
    # 5 batches an epoch, saved every 2: in the middle of the second layer's turn.
    assert train_until_killed(recipe, tmp_path / "killed", 14) == (2, 2)
    loop.train(recipe, tmp_path / "killed", resume=True)
    results = [(f / loop.RESULT_NAME).read_bytes() for f in (whole, tmp_path / "killed")]
    assert results[0] == results[1]


def test_a_gate_that_breaks_stops_with_the_layers_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, seen = loop.Run._step, []

    def breaking(self: loop.Run, images: Tensor, labels: Tensor) -> None:
        seen.append(1)
        if len(seen) == 7:
            layer = gates(self.module)["stage2.0.conv1"]
            assert isinstance(layer, DCPConv2d)
            with torch.no_grad():
                layer.predictor.bias[3] = math.nan
        step(self, images, labels)

    monkeypatch.setattr(loop.Run, "_step", breaking)
    with pytest.raises(TrainingError, match=r"layer 'stage2\.0\.conv1' is no longer finite"):
        loop.train(recipe_from(TINY), tmp_path)
    found = state.load_state(tmp_path)
    assert found is not None
    assert (found[0].epoch, found[0].batch) == (1, 0)
    assert all(tensor.isfinite().all() for tensor in found[1].values())


def test_a_run_goes_on_from_one_of_another_density(whole: Path, tmp_path: Path) -> None:
    table = TINY | {
        "start_from": str(whole),
        "density": 0.25,
        "density_schedule": [[0, 0.5], [1, 0.25]],
        "gate_training": {"layer_epochs": 0.0},
        "epochs": 2,
    }
    loop.train(recipe_from(table), tmp_path)
    assert describe(tmp_path)["macs"]["executed"] < describe(whole)["macs"]["executed"]
    assert describe(tmp_path)["gate"]["density"] == 0.25


def test_at_the_same_density_fbs_does_the_same_arithmetic_on_average() -> None:
    torch.manual_seed(0)
    module = pretrained()
    images = torch.randn(40, 3, 32, 32)
    counted = {}
    for method, layer in (("dcp", DCPConv2d), ("fbs", FBSConv2d)):
        gated = gate(module, method, density=0.7, layers=INNER)
        assert all(isinstance(found, layer) for found in gates(gated).values())
        if method == "dcp":
            calibrate(gated, [images], tolerance=0.0)
        counted[method] = count_macs(gated, images[:1], images).executed
    assert counted["dcp"] == pytest.approx(counted["fbs"], rel=1e-3)


def test_recipes_of_one_density_are_that_from_the_start() -> None:
    recipe = replace(recipe_from(TINY), density_schedule=[])
    assert LayerByLayer().densities(recipe, 0, 2) == [0.5, 0.5]
