"""DCP: the T-sigmoid against a plain reference, its thresholds, and training layer by layer."""

from __future__ import annotations

import copy
import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from headgate.errors import ModelError, RecipeError, TrainingError, UsageError
from headgate.train import loop, state
from headgate.train.checkpoints import describe, load_checkpoint
from headgate.train.evaluate import accuracy, to_network_input
from headgate.train.gates import (
    DCPConv2d,
    FBSConv2d,
    calibrate,
    gate,
    gate_statistics,
    gates,
    set_density,
)
from headgate.train.gates.layer_by_layer import LayerByLayer
from headgate.train.gates.thresholds import BATCH_WEIGHT, find_thresholds
from headgate.train.history import read_csv
from headgate.train.macs import count_macs
from headgate.train.models import create_model
from headgate.train.problem import load_problem
from headgate.train.procedure import Moment
from headgate.train.recipe import Recipe, recipe_from, to_toml

EPS = 1e-5
INNER = "block-inner"

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


def pair(
    inputs: int = 5, outputs: int = 7, bias: bool = False, **geometry: int
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """A float64 convolution and a batch norm with a history, factors of both signs."""
    conv = nn.Conv2d(inputs, outputs, 3, bias=bias, dtype=torch.float64, **geometry)
    norm = nn.BatchNorm2d(outputs, dtype=torch.float64)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    assert norm.running_mean is not None and norm.running_var is not None
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    return conv, norm


def pretrained(name: str = "resnet8") -> nn.Module:
    module = create_model(name)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    module.train()(torch.randn(16, 3, 32, 32))
    return module.eval()


def dcp_layers(module: nn.Module) -> list[DCPConv2d]:
    return [layer for layer in gates(module).values() if isinstance(layer, DCPConv2d)]


# The formula


def reference(layer: DCPConv2d, x: Tensor, u: Tensor) -> Tensor:
    """T-weighting image by image and channel by channel; u is the normalised convolution."""
    y = torch.zeros_like(u)
    for n in range(len(x)):
        s = torch.stack([x[n, i].sum() / x[n, i].numel() for i in range(x.shape[1])])
        for c in range(layer.channels):
            z = layer.predictor.weight[c] @ s + layer.predictor.bias[c]
            if layer.active == layer.channels or z.item() > layer.threshold.item():
                g = layer.factor.item() / (1 + torch.exp(-z))
                shift = layer.shift[c]
                inside = layer.variant == "paper"
                y[n, c] = g * (u[n, c] + shift) if inside else g * u[n, c] + shift
    return y


@pytest.mark.parametrize("variant", ["official", "paper"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("density", [0.25, 0.5, 1.0])
def test_forward_and_gradient_are_the_references(
    variant: str, training: bool, density: float
) -> None:
    torch.manual_seed(1)
    conv, norm = pair(stride=2, padding=1)
    layer = DCPConv2d(conv, norm, "layer", density, variant, predictor_std=2.0)
    x = torch.randn(4, 5, 6, 6, dtype=torch.float64, requires_grad=True)
    layer.set_thresholds(find_thresholds(layer.saliency(x)))
    layer.train(training)
    running = copy.deepcopy(layer.norm)
    y = layer(x)
    v = F.conv2d(x, layer.weight, None, 2, 1)
    if training:
        mean, var = v.mean((0, 2, 3)), v.var((0, 2, 3), unbiased=False)
    else:
        mean, var = running.running_mean, running.running_var
    u = (v - mean[:, None, None]) / torch.sqrt(var + EPS)[:, None, None]
    expected = reference(layer, x, u)
    assert 0 < torch.count_nonzero(expected) <= expected.numel()
    assert torch.allclose(y, expected, atol=1e-12)

    direction = torch.randn_like(y)
    wanted = [x, *layer.parameters()]
    found = torch.autograd.grad((y * direction).sum(), wanted)
    plain = torch.autograd.grad((expected * direction).sum(), wanted)
    for a, b in zip(found, plain, strict=True):
        assert torch.allclose(a, b, atol=1e-10)


def test_gradient_reaches_the_predictor_through_kept_channels_only() -> None:
    torch.manual_seed(0)
    layer = DCPConv2d(*pair(), "layer", 0.5).eval()
    layer(torch.randn(1, 5, 6, 6, dtype=torch.float64)).square().sum().backward()
    assert layer.last_gate is not None and layer.predictor.bias.grad is not None
    kept = layer.last_gate[0] != 0
    assert 0 < kept.sum() < 7
    assert torch.equal(layer.predictor.bias.grad != 0, kept)
    assert torch.equal(layer.shift.grad != 0, kept)


@pytest.mark.parametrize("variant", ["official", "paper"])
@pytest.mark.parametrize("name", ["resnet8", "mcifarnet"])
def test_pretrained_network_is_kept_at_density_one(name: str, variant: str) -> None:
    torch.manual_seed(0)
    module = pretrained(name)
    images = torch.randn(4, 3, 32, 32)
    expected = module(images)
    exact = gate(module, "dcp", density=1.0, variant=variant, predictor_std=0.0)
    assert torch.allclose(exact(images), expected, rtol=1e-4, atol=1e-4 * expected.std().item())
    near = gate(module, "dcp", density=1.0, variant=variant)(images)
    assert (near - expected).std() < 0.25 * expected.std()
    assert not torch.equal(near, expected)


def test_an_image_with_no_logit_above_the_threshold_gives_zeros() -> None:
    layer = DCPConv2d(*pair(), "layer", 0.5).eval()
    layer.set_thresholds(torch.full((7,), 50.0))
    assert torch.count_nonzero(layer(torch.randn(2, 5, 6, 6, dtype=torch.float64))) == 0


@pytest.mark.parametrize("density", [0.5, 1.0])
def test_a_logit_that_is_no_number_is_not_taken_for_a_closed_channel(density: float) -> None:
    layer = DCPConv2d(*pair(), "layer", density).eval()
    with torch.no_grad():
        layer.predictor.bias[2] = math.nan
    y = layer(torch.randn(2, 5, 6, 6, dtype=torch.float64))
    assert y[:, 2].isnan().all()
    with pytest.raises(TrainingError, match="gate of layer 'layer' is no longer finite"):
        layer.check_finite()


def test_the_comparison_is_strict() -> None:
    layer = DCPConv2d(*pair(), "layer", 0.5, predictor_std=0.0).eval()
    layer.set_thresholds(layer.predictor.bias.detach()[[3] * 7])
    layer(torch.randn(1, 5, 6, 6, dtype=torch.float64))
    assert layer.last_gate is not None
    above = layer.predictor.bias > layer.predictor.bias[3]
    assert torch.equal(layer.last_gate[0] != 0, above)


# Thresholds


@given(images=st.integers(1, 9), channels=st.integers(1, 40), seed=st.integers(0, 99))
def test_a_threshold_lets_exactly_the_wanted_number_stay(
    images: int, channels: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(images * channels, generator=generator)
    logits = order.double().reshape(images, channels) / 7 - 3  # all different
    thresholds = find_thresholds(logits)
    assert thresholds.shape == (channels,)
    assert [int((logits > t).sum()) for t in thresholds[:-1]] == [
        k * images for k in range(1, channels)
    ]
    assert thresholds[-1] == logits.min()


@given(
    channels=st.integers(1, 12),
    inputs=st.integers(1, 6),
    density=st.floats(0.01, 1.0),
    seed=st.integers(0, 99),
)
@settings(max_examples=40)
def test_calibrated_layers_keep_their_density_on_average(
    channels: int, inputs: int, density: float, seed: int
) -> None:
    torch.manual_seed(seed)
    module = nn.Sequential(*pair(inputs, channels)).eval()
    gated = gate(module, "dcp", density=density)
    images = torch.randn(20, inputs, 5, 5, dtype=torch.float64)
    calibrate(gated, images.split(7))
    gated(images)
    statistics = gate_statistics(gated)["0"]
    assert statistics.mean == math.ceil(channels * density - 1e-9)
    assert statistics.active.shape == (20,)
    assert 0 <= statistics.least <= statistics.mean <= statistics.most <= channels


def test_calibration_settles_layers_that_depend_on_each_other() -> None:
    torch.manual_seed(0)
    gated = gate(pretrained(), "dcp", density=0.5, predictor_std=2.0).train()
    images = torch.randn(200, 3, 32, 32)
    calibrate(gated, images.split(64), tolerance=0.0)
    assert all(part.training for part in gated.modules())
    gated.eval()(images)
    statistics = gate_statistics(gated)
    assert {path: s.mean for path, s in statistics.items()} == {
        path: layer.channels / 2 for path, layer in gates(gated).items()
    }
    assert sum(s.least < s.mean < s.most for s in statistics.values()) >= 3


def test_calibration_refuses_networks_without_a_threshold_and_no_images() -> None:
    with pytest.raises(ModelError, match="no gate with a threshold"):
        calibrate(gate(create_model("resnet8"), "fbs"), [torch.zeros(1, 3, 32, 32)])
    with pytest.raises(ModelError, match=r"no image reached the gated layer 'conv'"):
        calibrate(gate(create_model("resnet8"), "dcp"), [])


def test_set_density_takes_the_threshold_of_the_wanted_number() -> None:
    torch.manual_seed(0)
    gated = gate(pretrained(), "dcp", density=1.0, layers=INNER)
    images = torch.randn(60, 3, 32, 32)
    calibrate(gated, images.split(60))
    layer = gates(gated)["stage1.0.conv1"]
    for density in (0.25, 0.5, 0.75, 1.0, 0.25):
        set_density(gated, density)
        gated(images)
        assert gate_statistics(gated)["stage1.0.conv1"].mean == 16 * density
    assert layer.threshold == layer.thresholds[3]
    with pytest.raises(UsageError, match="outside"):
        set_density(gated, 0.0)


def test_before_any_image_the_largest_factors_stay() -> None:
    torch.manual_seed(0)
    conv, norm = pair()
    layer = DCPConv2d(conv, norm, "layer", 0.4, predictor_std=0.0).eval()
    layer(torch.randn(1, 5, 6, 6, dtype=torch.float64))
    assert layer.last_gate is not None
    kept = set(layer.last_gate[0].nonzero().flatten().tolist())
    assert kept == set(norm.weight.abs().topk(3).indices.tolist())


def test_thresholds_follow_training_batches_and_only_those() -> None:
    torch.manual_seed(0)
    layer = DCPConv2d(*pair(), "layer", 0.5).train()
    before = layer.thresholds.clone()
    x = torch.randn(8, 5, 6, 6, dtype=torch.float64)
    found = find_thresholds(layer.saliency(x))
    layer(x)
    expected = (1 - BATCH_WEIGHT) * before + BATCH_WEIGHT * found
    assert torch.allclose(layer.thresholds, expected, atol=1e-12)
    assert layer.threshold == layer.thresholds[3]
    layer.eval()(x)
    assert torch.allclose(layer.thresholds, expected, atol=1e-12)


def test_state_dict_restores_thresholds_too() -> None:
    torch.manual_seed(0)
    images = torch.randn(8, 3, 32, 32)
    gated = gate(pretrained(), "dcp", density=0.5)
    calibrate(gated, [images])
    other = gate(create_model("resnet8"), "dcp", density=0.5).eval()
    other.load_state_dict(gated.state_dict())
    assert torch.equal(other(images), gated(images))


# Export and counting


def test_exports_as_ordinary_operators_around_one_gated_convolution() -> None:
    gated = gate(create_model("resnet8"), "dcp", density=0.5, layers=INNER).eval()
    program = torch.export.export(gated, (torch.zeros(1, 3, 32, 32),))
    names = [str(n.target) for n in program.graph.nodes if n.op == "call_function"]
    assert names.count("headgate.gated_conv2d.default") == 3
    expected = (
        *("mean.dim", "linear.default", "sigmoid.default", "mul.Tensor", "le.Tensor"),
        *("zeros_like.default", "where.self"),
    )
    first = names.index("aten.mean.dim")
    assert names[first : first + 7] == [f"aten.{name}" for name in expected]


def test_counting_knows_every_operator_and_every_image() -> None:
    torch.manual_seed(0)
    gated = gate(pretrained(), "dcp", density=0.5, layers=INNER, predictor_std=2.0)
    images = torch.randn(20, 3, 32, 32)
    calibrate(gated, [images])
    count = count_macs(gated, images[:1], images)
    assert count.unsupported() == {}
    assert count.gate == sum(m.in_channels * m.channels for m in dcp_layers(gated))
    gated(images)
    # Inside a block the skipped channels save in both convolutions.
    sizes = {"stage1.0.conv1": 32, "stage2.0.conv1": 16, "stage3.0.conv1": 8}
    expected = torch.full((20,), count.dense + count.gate)
    for path, statistics in gate_statistics(gated).items():
        layer = gates(gated)[path]
        per_channel = 9 * (layer.in_channels + layer.channels) * sizes[path] ** 2
        expected -= (layer.channels - statistics.active) * per_channel
    assert torch.equal(count.executed_per_image, expected)
    assert len(set(expected.tolist())) > 1


# Training


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
    procedure = LayerByLayer(layer_epochs)
    for epoch, densities in expected.items():
        assert procedure.densities(recipe, epoch, 3) == [float(d) for d in densities.split()]


def test_ten_turns_of_a_tenth_are_an_epoch() -> None:
    recipe = Recipe(gate="dcp", density=0.5, density_schedule=[[1, 0.5]])
    assert LayerByLayer(0.1).densities(recipe, 2, 11) == [0.5] * 11


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer_epochs": -1}, r"layer_epochs = -1, but it must be a number, at least 0"),
        ({"layer_epochs": "two"}, r"layer_epochs = 'two'"),
        ({"calibration_images": 0}, r"calibration_images = 0, but it must be a whole number"),
        ({"calibration_images": 1.5}, r"calibration_images = 1.5"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        LayerByLayer(**options)


def test_turns_after_the_last_epoch_are_refused(tmp_path: Path) -> None:
    table = TINY | {"gate_training": {"layer_epochs": 1.5}}
    with pytest.raises(RecipeError, match=r"last of 3 gated layers at epoch 4, but there are 4"):
        loop.train(recipe_from(table), tmp_path)
    with pytest.raises(RecipeError, match=r"no option 'layer_epoch'.*'layer_epochs'"):
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
    preprocess = problem.preprocess
    images = to_network_input(
        problem.train_images[::2], torch.tensor(preprocess.mean), torch.tensor(preprocess.std)
    )
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
    mean, std = torch.tensor(preprocess.mean), torch.tensor(preprocess.std)
    images = to_network_input(problem.train_images, mean, std)
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
    (tmp_path / "recipe.toml").write_text(to_toml(recipe))
    program = f"""
import os, signal
from headgate.train import loop
from headgate.train.recipe import load_recipe
step, seen = loop.Run._step, []
def deadly(self, images, labels):
    seen.append(1)
    if len(seen) == 14:
        os.kill(os.getpid(), signal.SIGKILL)
    step(self, images, labels)
loop.Run._step = deadly
loop.train(load_recipe({str(tmp_path / "recipe.toml")!r}), {str(tmp_path / "killed")!r})
"""
    killed = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
        stderr=subprocess.DEVNULL,
        timeout=300,
    )
    assert killed.returncode == -signal.SIGKILL
    position = json.loads((tmp_path / "killed" / state.JSON_NAME).read_text())["position"]
    # 5 batches an epoch, saved every 2: in the middle of the second layer's turn.
    assert (position["epoch"], position["batch"]) == (2, 2)
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
