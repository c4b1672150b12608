"""DCP: the T-sigmoid against a plain reference, and its thresholds."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from headgate.errors import ModelError, TrainingError, UsageError
from headgate.train.gates import (
    DCPConv2d,
    calibrate,
    gate,
    gate_statistics,
    gates,
    set_density,
)
from headgate.train.gates.thresholds import BATCH_WEIGHT, find_thresholds
from headgate.train.macs import count_macs
from headgate.train.models import create_model
from tests.gated_networks import INNER, dcp_layers, pair, pretrained

EPS = 1e-5


# The formula


def reference(layer: DCPConv2d, x: Tensor, u: Tensor) -> Tensor:
    """T-weighting image by image and channel by channel; u is the normalised convolution."""
    y = torch.zeros_like(u)
    means = torch.stack([torch.stack([plane.sum() / plane.numel() for plane in i]) for i in x])
    if layer.predictor.standard is not None:
        mean, var = layer.predictor.standard.running_mean, layer.predictor.standard.running_var
        if layer.training:
            mean, var = means.mean(0), means.var(0, unbiased=False)
        means = (means - mean) / torch.sqrt(var + EPS)
    for n, s in enumerate(means):
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
@pytest.mark.parametrize("standardize", [True, False])
def test_forward_and_gradient_are_the_references(
    variant: str, training: bool, density: float, standardize: bool
) -> None:
    torch.manual_seed(1)
    conv, norm = pair(stride=2, padding=1)
    layer = DCPConv2d(conv, norm, "layer", density, variant, 2.0, standardize)
    x = torch.randn(4, 5, 6, 6, dtype=torch.float64, requires_grad=True)
    if layer.predictor.standard is not None:
        layer.predictor.standard.running_mean.normal_()
        layer.predictor.standard.running_var.uniform_(0.5, 2.0)
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
