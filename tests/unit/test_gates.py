"""FBS gates: values and gradients against a plain reference, and what they do to a network."""

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
    FBSConv2d,
    check_finite,
    gate,
    gate_loss,
    gate_statistics,
    gates,
    keep_top_k,
    set_density,
)
from headgate.train.models import create_model
from tests.gated_networks import pair, pretrained

EPS = 1e-5


def reference(layer: FBSConv2d, x: Tensor, u: Tensor) -> Tensor:
    """FBS written out image by image and channel by channel; u is the normalised convolution."""
    y = torch.zeros_like(u)
    for n in range(len(x)):
        s = torch.stack([x[n, i].sum() / x[n, i].numel() for i in range(x.shape[1])])
        g = (layer.predictor.weight @ s + layer.predictor.bias).clamp_min(0)
        k = math.ceil(layer.channels * layer.density)
        threshold = -math.inf if k == layer.channels else g.sort(descending=True).values[k].item()
        for c in range(layer.channels):
            if g[c].item() > threshold and g[c].item() != 0:
                shift = layer.shift[c]
                inside = layer.variant == "paper"
                y[n, c] = g[c] * (u[n, c] + shift) if inside else g[c] * u[n, c] + shift
    return y


@pytest.mark.parametrize("variant", ["official", "paper"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("density", [0.25, 0.5, 1.0])
def test_forward_and_gradient_are_the_references(
    variant: str, training: bool, density: float
) -> None:
    torch.manual_seed(1)
    conv, norm = pair(stride=2, padding=1)
    layer = FBSConv2d(conv, norm, "layer", density, variant, predictor_std=2.0)
    layer.train(training)
    x = torch.randn(4, 5, 6, 6, dtype=torch.float64, requires_grad=True)
    running = copy.deepcopy(layer.norm)
    y = layer(x)
    v = F.conv2d(x, layer.weight, None, 2, 1)
    if training:
        mean, var = v.mean((0, 2, 3)), v.var((0, 2, 3), unbiased=False)
    else:
        mean, var = running.running_mean, running.running_var
    u = (v - mean[:, None, None]) / torch.sqrt(var + EPS)[:, None, None]
    expected = reference(layer, x, u)
    assert torch.allclose(y, expected, atol=1e-12)

    direction = torch.randn_like(y)
    wanted = [x, *layer.parameters()]
    found = torch.autograd.grad((y * direction).sum(), wanted)
    plain = torch.autograd.grad((expected * direction).sum(), wanted)
    for a, b in zip(found, plain, strict=True):
        assert torch.allclose(a, b, atol=1e-10)


def test_gradient_reaches_the_predictor_through_active_channels_only() -> None:
    torch.manual_seed(0)
    layer = FBSConv2d(*pair(), "layer", 0.5)
    layer(torch.randn(1, 5, 6, 6, dtype=torch.float64)).square().sum().backward()
    assert layer.last_gate is not None and layer.predictor.bias.grad is not None
    active = layer.last_gate[0] != 0
    assert active.sum() == 4
    assert torch.equal(layer.predictor.bias.grad != 0, active)
    assert torch.equal(layer.shift.grad != 0, active)


def test_batch_norm_sees_the_skipped_channels_too() -> None:
    torch.manual_seed(0)
    layer = FBSConv2d(*pair(), "layer", 0.25).train()
    layer.norm.momentum = 1.0
    x = torch.randn(8, 5, 6, 6, dtype=torch.float64)
    layer(x)
    v = F.conv2d(x, layer.weight)
    assert torch.allclose(layer.norm.running_mean, v.mean((0, 2, 3)))
    assert torch.allclose(layer.norm.running_var, v.var((0, 2, 3)))


@given(
    values=st.lists(st.lists(st.integers(-4, 9), min_size=6, max_size=6), min_size=1, max_size=3),
    k=st.integers(0, 6),
)
def test_keep_top_k_is_strict(values: list[list[int]], k: int) -> None:
    saliency = torch.tensor(values, dtype=torch.float64)
    kept = keep_top_k(saliency, k)
    for row, result in zip(saliency.tolist(), kept.tolist(), strict=True):
        threshold = -math.inf if k == len(row) else sorted(row, reverse=True)[k]
        assert result == [value if value > threshold else 0 for value in row]
        assert sum(value > threshold for value in row) <= k


def test_keep_top_k_refuses_impossible_counts() -> None:
    with pytest.raises(ValueError, match=r"k = 4 is outside 0\.\.3"):
        keep_top_k(torch.zeros(1, 3), 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_operators_are_well_formed(dtype: torch.dtype) -> None:
    saliency = torch.rand(2, 6, dtype=dtype, requires_grad=True)
    torch.library.opcheck(torch.ops.headgate.keep_top_k.default, (saliency, 3))
    x = torch.randn(2, 4, 5, 5, dtype=dtype, requires_grad=True)
    weight = torch.randn(6, 2, 3, 3, dtype=dtype)
    vectors = [torch.randn(6, dtype=dtype) for _ in range(3)]
    geometry = ([2, 1], [1, 0], [1, 1], 2)
    args = (x, weight, *vectors[:2], saliency.detach(), vectors[2], *geometry)
    torch.library.opcheck(torch.ops.headgate.gated_conv2d.default, args)
    following = (x, weight, *vectors[:2], saliency.detach(), *geometry)
    torch.library.opcheck(torch.ops.headgate.following_conv2d.default, following)


@given(channels=st.integers(1, 300), percent=st.integers(1, 100))
@settings(max_examples=200)
def test_active_channels_is_the_exact_ceiling(channels: int, percent: int) -> None:
    layer_count = -(-channels * percent // 100)
    conv, norm = nn.Conv2d(1, channels, 1), nn.BatchNorm2d(channels)
    assert FBSConv2d(conv, norm, "layer", percent / 100).active == layer_count


@pytest.mark.parametrize("variant", ["official", "paper"])
@pytest.mark.parametrize("name", ["resnet8", "mcifarnet"])
def test_pretrained_network_is_kept_at_density_one(name: str, variant: str) -> None:
    torch.manual_seed(0)
    module = pretrained(name)
    images = torch.randn(4, 3, 32, 32)
    expected = module(images)
    exact = gate(module, density=1.0, variant=variant, predictor_std=0.0)
    assert torch.allclose(exact(images), expected, atol=1e-5)
    near = gate(module, density=1.0, variant=variant)(images)
    assert (near - expected).std() < 0.25 * expected.std()
    assert not torch.equal(near, expected)


def test_convolution_bias_moves_into_the_running_mean() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(*pair(bias=True)).eval()
    gated = gate(module, density=1.0, predictor_std=0.0)
    x = torch.randn(2, 5, 6, 6, dtype=torch.float64)
    assert torch.allclose(gated(x), module(x))
    assert "0.bias" not in gated.state_dict()


def test_original_is_untouched_and_mode_is_kept() -> None:
    module = create_model("resnet8").train()
    before = copy.deepcopy(module.state_dict())
    gated = gate(module)
    gated(torch.randn(2, 3, 32, 32))
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert gates(module) == {} and all(m.training for m in gated.modules())
    assert not any(m.training for m in gate(module.eval()).modules())


def test_state_dict_is_plain_and_restores_the_network() -> None:
    gated = gate(create_model("resnet8"), density=0.5).eval()
    state = gated.state_dict()
    assert all(type(value) is Tensor for value in state.values())
    names = {"weight", "shift", "predictor.weight", "predictor.bias", "norm.running_var"}
    assert {f"stage1.0.conv1.{name}" for name in names} <= set(state)
    other = gate(create_model("resnet8"), density=0.5).eval()
    other.load_state_dict(state)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(other(images), gated(images))


def test_gated_network_can_be_copied_after_training_steps() -> None:
    gated = gate(create_model("resnet8"))
    gated(torch.randn(2, 3, 32, 32)).sum().backward()
    clone = copy.deepcopy(gated).eval()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(clone(images), gated.eval()(images))


def test_skipped_channels_are_zero_and_counted() -> None:
    torch.manual_seed(0)
    gated = gate(create_model("mcifarnet"), density=0.3).eval()
    outputs: dict[str, Tensor] = {}
    for path, layer in gates(gated).items():
        layer.register_forward_hook(lambda m, args, out, path=path: outputs.update({path: out}))
    gated(torch.randn(3, 3, 32, 32))
    for path, statistics in gate_statistics(gated).items():
        channels = statistics.mask.shape[1]
        assert statistics.mask.sum(1).tolist() == [math.ceil(0.3 * channels)] * 3
        assert statistics.density == pytest.approx(math.ceil(0.3 * channels) / channels)
        assert torch.equal(outputs[path].abs().amax((2, 3)) != 0, statistics.mask)
    masks = gate_statistics(gated)["features.conv7"].mask
    assert not torch.equal(masks[0], masks[1])


def test_equal_saliencies_and_negative_ones_may_skip_everything() -> None:
    layer = FBSConv2d(*pair(), "layer", 0.5).eval()
    x = torch.randn(2, 5, 6, 6, dtype=torch.float64)
    for level in (1.0, -1.0):
        nn.init.zeros_(layer.predictor.weight)
        nn.init.constant_(layer.predictor.bias, level)
        assert torch.count_nonzero(layer(x)) == 0


def test_set_density() -> None:
    gated = gate(create_model("resnet8"), density=1.0)
    set_density(gated, 0.5)
    set_density(gated, 0.25, "stage3.*")
    assert {p: m.active for p, m in gates(gated).items()} == {
        "conv": 8,
        "stage1.0.conv1": 8,
        "stage1.0.conv2": 8,
        "stage2.0.conv1": 16,
        "stage2.0.conv2": 16,
        "stage3.0.conv1": 16,
        "stage3.0.conv2": 16,
    }
    with pytest.raises(UsageError, match="outside"):
        set_density(gated, 0.0)
    with pytest.raises(UsageError, match="matches no gated layer"):
        set_density(gated, 0.5, "stage4.*")


def test_gate_loss_is_the_formula() -> None:
    torch.manual_seed(0)
    gated = gate(create_model("resnet8"), density=0.5)
    with pytest.raises(ModelError, match="has not run yet"):
        gate_loss(gated)
    gated(torch.randn(4, 3, 32, 32))
    last = [layer.last_gate.detach() for layer in gates(gated).values()]
    assert gate_loss(gated).item() == pytest.approx(sum(g.sum().item() / 4 for g in last))
    balance = [g.sum(0).numpy() for g in last]
    expected = sum(b.var() / b.mean() ** 2 for b in balance)
    assert gate_loss(gated, "moe").item() == pytest.approx(expected, rel=1e-5)
    gate_loss(gated).backward()
    assert gates(gated)["conv"].predictor.bias.grad.abs().sum() > 0
    with pytest.raises(ModelError, match="no gated layer"):
        gate_loss(create_model("resnet8"))


def test_normalised_gates_keep_their_mean() -> None:
    torch.manual_seed(0)
    module = pretrained()
    gated = gate(module, density=1.0, normalise=True)
    images = torch.rand(4, 3, 32, 32)
    for layer in gates(gated).values():
        nn.init.uniform_(layer.predictor.weight, 0, 100)
    gated(images)
    for layer in gates(gated).values():
        assert torch.allclose(layer.last_gate.mean(1), layer.level.expand(4), rtol=1e-4)
    exact = gate(module, density=1.0, normalise=True, predictor_std=0.0)
    assert torch.allclose(exact(images), module(images), atol=1e-4)


def test_divergence_names_the_layer() -> None:
    gated = gate(create_model("resnet8")).train()
    nn.init.constant_(gates(gated)["stage2.0.conv1"].predictor.weight, math.nan)
    with pytest.raises(TrainingError, match=r"'stage2\.0\.conv1' is no longer finite"):
        gated(torch.randn(2, 3, 32, 32))
    gated.eval()(torch.randn(2, 3, 32, 32))
    with pytest.raises(TrainingError, match=r"'stage2\.0\.conv1' is no longer finite"):
        check_finite(gated)


def test_autocast_decides_in_full_precision() -> None:
    torch.manual_seed(0)
    gated = gate(create_model("resnet8"), density=0.5, predictor_std=1e-4)
    images = torch.randn(2, 3, 32, 32)
    for training in (True, False):
        gated.train(training)
        with torch.autocast("cpu", torch.bfloat16):
            logits = gated(images)
        assert logits.isfinite().all()
        # In bfloat16 these saliencies, 1 to within 1e-3, would be equal and nothing would stay.
        assert {s.density for s in gate_statistics(gated).values()} == {0.5}


def test_bad_options_are_named() -> None:
    module = create_model("resnet8")
    with pytest.raises(UsageError, match=r"unknown gating method 'fbz'.*'fbs'"):
        gate(module, "fbz")
    with pytest.raises(UsageError, match=r"no option 'varient'.*'variant'"):
        gate(module, varient="paper")
    with pytest.raises(UsageError, match="unknown variant 'papper'"):
        gate(module, variant="papper")
    with pytest.raises(UsageError, match="unknown predictor activation 'gelu'"):
        gate(module, act="gelu")
    with pytest.raises(UsageError, match="normalise=True needs"):
        gate(module, act="identity", normalise=True)
    with pytest.raises(UsageError, match=r"density 1\.5 is outside"):
        gate(module, density=1.5)


@pytest.mark.parametrize("density", [0.5, 1.0])
@pytest.mark.parametrize("variant", ["official", "paper"])
def test_export_keeps_a_gate_as_its_operators(density: float, variant: str) -> None:
    torch.manual_seed(0)
    gated = gate(create_model("resnet8"), density=density, variant=variant).eval()
    images = torch.randn(1, 3, 32, 32)
    program = torch.export.export(gated, (images,))
    graph = [n for n in program.graph.nodes if n.op == "call_function"]
    convolutions = [n for n in graph if n.target is torch.ops.headgate.gated_conv2d.default]
    assert len(convolutions) == 7
    for convolution in convolutions:
        chain = [convolution.args[4]]
        while chain[-1] is not convolution.args[0]:
            chain.append(chain[-1].args[0])
        names = [str(n.target).split(".")[-2] for n in reversed(chain[:-1])]
        expected = ["mean", "linear", "relu", "keep_top_k"]
        assert names == (expected if density < 1 else expected[:3])
    assert torch.allclose(program.module()(images), gated(images), atol=1e-6)
    decomposed = {str(n.target) for n in program.run_decompositions().graph.nodes}
    assert "headgate.gated_conv2d.default" in decomposed
