"""CGNet: forward and gradient rules against a plain reference, and what it does to a network."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from headgate.errors import ModelError, TrainingError, UsageError
from headgate.train.gates import (
    CGNetConv2d,
    check_finite,
    find_convolutions,
    gate,
    gate_loss,
    gate_statistics,
    gates,
    pixel_gated_conv2d,
    set_density,
    set_target,
)
from headgate.train.gates.pixel_operator import block_mean, block_sum, spread
from headgate.train.models import create_model
from headgate.train.network import kept_share


def pair(
    inputs: int = 8, outputs: int = 16, bias: bool = False, kernel: int = 3, **geometry: int
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """A float64 convolution and a batch norm with a history, factors of both signs."""
    conv = nn.Conv2d(inputs, outputs, kernel, bias=bias, dtype=torch.float64, **geometry)
    norm = nn.BatchNorm2d(outputs, dtype=torch.float64)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    assert norm.running_mean is not None and norm.running_var is not None
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    return conv, norm


def lively(layer: CGNetConv2d) -> CGNetConv2d:
    """Thresholds, factors and statistics that no rule can be right for by chance."""
    for parameter in layer.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, std=0.3)
    for norm in (layer.norm, layer.partial):
        nn.init.normal_(norm.running_mean, std=0.1)
        nn.init.uniform_(norm.running_var, 0.05, 0.3)
    return layer


# The reference: the formulas of the docstring, block by block, with straight-through by hand.


def shuffled(x: Tensor, groups: int) -> Tensor:
    channels = x.shape[1]
    order = [g * (channels // groups) + i for i in range(channels // groups) for g in range(groups)]
    return x[:, order]


def mask(layer: CGNetConv2d) -> Tensor:
    result = torch.zeros_like(layer.weight)
    outputs, inputs = result.shape[:2]
    p = layer.partitions
    for i in range(p if layer.grouped else 1):
        rows = slice(i * outputs // p, (i + 1) * outputs // p) if layer.grouped else slice(None)
        result[rows, i * inputs // p : (i + 1) * inputs // p] = 1
    return result


def blocks(layer: CGNetConv2d, shape: torch.Size) -> list[tuple[slice, slice]]:
    """Channels and flattened pixels of every block."""
    channels, pixels = layer.block
    runs = range(0, shape[2] * shape[3], pixels)
    return [
        (slice(c, c + channels), slice(p, p + pixels))
        for c in range(0, shape[1], channels)
        for p in runs
    ]


def normalised(v: Tensor, norm: nn.BatchNorm2d, training: bool) -> Tensor:
    if training:
        mean, var = v.mean((0, 2, 3)), v.var((0, 2, 3), unbiased=False)
    else:
        mean, var = norm.running_mean, norm.running_var
    return (v - mean[:, None, None]) / torch.sqrt(var + norm.eps)[:, None, None]


def straight_through(score: Tensor, layer: CGNetConv2d) -> Tensor:
    """A number that is 0 or 1 and has the gradient which the official code gives it."""
    soft = torch.sigmoid(layer.alpha * score)
    on = (soft - 0.5 > 0).to(score.dtype)
    # Evaluation is one operator, to which the step is a constant.
    if not layer.training or (layer.sparse_bp and not on):
        return on
    return on + soft - soft.detach()


def reference(layer: CGNetConv2d, x: Tensor) -> tuple[Tensor, Tensor]:
    if layer.shuffle:
        x = shuffled(x, layer.partitions)
    geometry = (None, layer.stride, layer.padding, layer.dilation)
    base = F.conv2d(x, layer.weight * mask(layer), *geometry)
    full = F.conv2d(x, layer.weight, *geometry)
    n = normalised(base, layer.partial, layer.training)
    score = (n - layer.threshold[:, None, None]).flatten(2)
    d = torch.zeros_like(score)
    for image in range(len(x)):
        for channels, pixels in blocks(layer, base.shape):
            d[image, channels, pixels] = straight_through(
                score[image, channels, pixels].mean(), layer
            )
    d = d.view_as(base)
    factor, shift = layer.norm.weight[:, None, None], layer.norm.bias[:, None, None]
    if not layer.separate_norms:
        blend = normalised(d * full + (1 - d) * base, layer.norm, layer.training)
        return blend * factor + shift, d
    part = n * layer.base_scale[:, None, None] + layer.base_shift[:, None, None]
    whole = normalised(full, layer.norm, layer.training) * factor + shift
    return d * whole + (1 - d) * part, d


def middle(layer: CGNetConv2d, x: Tensor) -> Tensor:
    """What to add to all thresholds so that half of the blocks are on."""
    x = shuffled(x, layer.partitions) if layer.shuffle else x
    base = F.conv2d(x, layer.weight * mask(layer), None, layer.stride, layer.padding)
    score = normalised(base, layer.partial, layer.training) - layer.threshold[:, None, None]
    means = [score.flatten(2)[:, c, p].mean((1, 2)) for c, p in blocks(layer, base.shape)]
    return torch.quantile(torch.cat(means), 0.5)


VARIANTS: list[dict[str, Any]] = [
    {},
    {"grouped": False},
    {"partitions": 2, "shuffle": True},
    {"grouped": False, "shuffle": True, "sparse_bp": False},
    {"sparse_bp": False, "alpha": 1.0},
    {"separate_norms": True},
    {"separate_norms": True, "sparse_bp": False, "block": (4, 16)},
    {"block": (8, 16), "partitions": 2},
    {"grouped": False, "block": [8, 16], "separate_norms": True},
]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", VARIANTS)
def test_forward_and_gradients_are_the_references(options: dict[str, Any], training: bool) -> None:
    torch.manual_seed(1)
    layer = lively(CGNetConv2d(*pair(stride=2, padding=1), "layer", **options)).train(training)
    x = torch.randn(4, 8, 17, 19, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        layer.threshold += middle(layer, x)
    expected, d = reference(layer, x)
    y = layer(x)
    assert torch.allclose(y, expected, atol=1e-12)
    assert layer.last_gate is not None
    assert torch.equal(layer.last_gate, d != 0) and 0.2 < d.mean() < 0.8

    direction = torch.randn_like(y)
    wanted = [x, layer.weight, layer.norm.weight, layer.norm.bias]
    wanted += [layer.base_scale, layer.base_shift] if layer.separate_norms else []
    wanted += [layer.threshold] if training else []
    found = torch.autograd.grad((y * direction).sum(), wanted)
    plain = torch.autograd.grad((expected * direction).sum(), wanted)
    for a, b in zip(found, plain, strict=True):
        assert torch.allclose(a, b, atol=1e-10)


def test_the_threshold_learns_where_the_gate_is_on_only() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 5, 5, dtype=torch.float64)
    grads = {}
    for sparse in (True, False):
        torch.manual_seed(1)
        layer = CGNetConv2d(*pair(), "layer", sparse_bp=sparse).train()
        nn.init.constant_(layer.threshold, 1e3)  # off everywhere
        layer(x).square().sum().backward()
        assert layer.threshold.grad is not None and kept_share(layer) == 0
        grads[sparse] = layer.threshold.grad
    assert torch.count_nonzero(grads[True]) == 0
    # So far away the slope is 0 too; nearer it is not.
    assert torch.count_nonzero(grads[False]) == 0
    nn.init.constant_(layer.threshold, 4.5)
    layer.zero_grad()
    layer(x).square().sum().backward()
    assert torch.count_nonzero(layer.threshold.grad) == 16


# Blocks


@settings(max_examples=40, deadline=None)
@given(
    cb=st.sampled_from([1, 4, 8]),
    pb=st.sampled_from([1, 16, 32]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    last=st.booleans(),
)
def test_block_means_are_means_over_runs(
    cb: int, pb: int, height: int, width: int, dtype: torch.dtype, last: bool
) -> None:
    x = torch.randn(2, 16, height, width).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    means, sums = block_mean(x, [cb, pb]), block_sum(x, [cb, pb])
    flat = x.flatten(2).to(torch.promote_types(dtype, torch.float32))
    runs = math.ceil(height * width / pb)
    assert means.shape == sums.shape == (2, 16 // cb, runs)
    wide = spread(means, [cb, pb], x)
    for c in range(16 // cb):
        for r in range(runs):
            part = (slice(None), slice(c * cb, (c + 1) * cb), slice(r * pb, (r + 1) * pb))
            # A sum over pixels is rounded once to half precision.
            close = {"atol": cb * 0.1} if dtype == torch.bfloat16 else {"atol": 1e-4}
            assert torch.allclose(sums[:, c, r], flat[part].sum((1, 2)), **close)
            count = flat[part][0].numel()
            assert torch.allclose(means[:, c, r], sums[:, c, r] / count)
            spread_out = wide.flatten(2)[part]
            assert torch.equal(spread_out, means[:, c, r, None, None].expand_as(spread_out))


@pytest.mark.parametrize(
    ("outputs", "options", "block"),
    [
        (32, {}, [8, 16]),
        (16, {}, [4, 16]),
        (48, {}, [4, 16]),
        (16, {"partitions": 2}, [8, 16]),
        (16, {"grouped": False}, [8, 16]),
        (24, {"grouped": False, "block": [16, 16]}, [12, 16]),
    ],
)
def test_a_block_divides_the_chunk_of_outputs(
    outputs: int, options: dict[str, Any], block: list[int]
) -> None:
    layer = CGNetConv2d(*pair(outputs=outputs), "layer", **({"block": [8, 16]} | options))
    assert layer.block == block


# The operator


@settings(max_examples=25, deadline=None)
@given(
    partitions=st.sampled_from([2, 4]),
    grouped=st.booleans(),
    shuffle=st.booleans(),
    separate=st.booleans(),
    block=st.sampled_from([(1, 1), (4, 16), (8, 32)]),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    size=st.tuples(st.integers(9, 13), st.integers(9, 13)),
    seed=st.integers(0, 1000),
)
def test_evaluation_is_the_reference_for_any_shape(
    partitions: int,
    grouped: bool,
    shuffle: bool,
    separate: bool,
    block: tuple[int, int],
    kernel: int,
    stride: int,
    padding: int,
    dilation: int,
    size: tuple[int, int],
    seed: int,
) -> None:
    torch.manual_seed(seed)
    geometry = {"stride": stride, "padding": padding, "dilation": dilation}
    layer = lively(
        CGNetConv2d(
            *pair(8, 16, kernel=kernel, **geometry),
            "layer",
            partitions=partitions,
            grouped=grouped,
            shuffle=shuffle,
            separate_norms=separate,
            block=block,
        )
    ).eval()
    x = torch.randn(2, 8, *size, dtype=torch.float64)
    expected, d = reference(layer, x)
    assert torch.allclose(layer(x), expected, atol=1e-12)
    assert torch.equal(layer.last_gate, d != 0)


def test_operator_is_well_formed() -> None:
    x = torch.randn(2, 8, 7, 9, requires_grad=True)
    weight = torch.randn(16, 8, 3, 3)
    vectors = [torch.randn(16) for _ in range(6)]
    args = (x, weight, *vectors, [1, 2], [1, 0], [1, 1], 4, True, True)
    last = x.detach().contiguous(memory_format=torch.channels_last)
    for block in ([1, 1], [4, 16]):
        torch.library.opcheck(torch.ops.headgate.pixel_gated_conv2d.default, (*args, block))
        assert pixel_gated_conv2d(last, *args[1:], block).is_contiguous()


@pytest.mark.parametrize("options", [{}, {"separate_norms": True, "block": (8, 16)}])
def test_export_keeps_a_gate_as_one_operator(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    gated = gate(create_model("resnet8"), "cgnet", **options).eval()
    images = torch.randn(1, 3, 32, 32)
    program = torch.export.export(gated, (images,))
    assert torch.allclose(program.module()(images), gated(images), atol=1e-6)
    nodes = program.run_decompositions().graph.nodes
    found = [n for n in nodes if n.target is torch.ops.headgate.pixel_gated_conv2d.default]
    assert len(found) == 6
    assert all(str(n.args[0].target) != "aten.channel_shuffle.default" for n in found)


# Networks


@pytest.mark.parametrize(
    "options", [{}, {"shuffle": True}, {"grouped": False, "separate_norms": True}]
)
def test_pretrained_network_is_kept_with_all_gates_on(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    module = create_model("resnet8")
    module.train()(torch.randn(16, 3, 32, 32))
    images = torch.randn(4, 3, 32, 32)
    on = gate(module, "cgnet", start=-100.0, **options)
    assert torch.allclose(on.eval()(images), module.eval()(images), atol=1e-5)
    assert {s.density for s in gate_statistics(on).values()} == {1.0}
    off = gate(module, "cgnet", start=100.0, **options).eval()
    assert not torch.allclose(off(images), module(images), atol=0.1)
    assert kept_share(off) == 0


def test_convolution_bias_moves_into_the_running_mean() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(*pair(bias=True)).eval()
    gated = gate(module, "cgnet", start=-100.0)
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64)
    assert torch.allclose(gated(x), module(x))


def test_state_dict_is_plain_and_restores_the_network() -> None:
    options: dict[str, Any] = {"separate_norms": True, "start": 0.3}
    gated = gate(create_model("resnet8"), "cgnet", **options)
    gated.train()(torch.randn(4, 3, 32, 32)).sum().backward()
    state = copy.deepcopy(gated).eval().state_dict()
    names = {"weight", "threshold", "norm.weight", "partial.running_var", "base_scale"}
    assert {f"stage1.0.conv1.{name}" for name in names} <= set(state)
    assert "conv.threshold" not in state
    other = gate(create_model("resnet8"), "cgnet", **options)
    other.load_state_dict(state)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(other.eval()(images), gated.eval()(images))


def test_layers_whose_channels_do_not_divide_stay_as_they_are() -> None:
    gated = gate(create_model("resnet8"), "cgnet")
    assert "conv" not in gates(gated) and len(gates(gated)) == 6
    with pytest.raises(ModelError, match="its 3 input channels do not divide into 4 partitions"):
        gate(create_model("resnet8"), "cgnet", layers="conv")
    with pytest.raises(ModelError, match="has no convolution that can be gated"):
        gate(create_model("resnet8"), "cgnet", partitions=128)
    with pytest.raises(ModelError, match="'x' cannot be gated: it has 2 groups of its own"):
        CGNetConv2d(*pair(groups=2), "x")
    with pytest.raises(ModelError, match="its 14 output channels do not divide"):
        CGNetConv2d(*pair(outputs=14), "x")
    with pytest.raises(ModelError, match="chunks of 2 output channels"):
        CGNetConv2d(*pair(outputs=8), "x", block=(4, 16))
    assert gates(gated)["stage1.0.conv1"].density == 1
    assert find_convolutions(gated).keys() == {"conv", "stage2.0.shortcut", "stage3.0.shortcut"}


def test_bad_options_are_named() -> None:
    module = create_model("resnet8")
    with pytest.raises(UsageError, match="partitions = 1, but must be"):
        gate(module, "cgnet", partitions=1)
    for block in ((4, 1), (2, 16), (4, 16, 1), 4, (0, 16)):
        with pytest.raises(UsageError, match=r"block = .*, but must be"):
            gate(module, "cgnet", block=block)
    with pytest.raises(UsageError, match=r"no option 'partition'.*'partitions'"):
        gate(module, "cgnet", partition=2)
    with pytest.raises(UsageError, match=r"density 0\.5: .* takes none"):
        gate(module, "cgnet", density=0.5)
    with pytest.raises(UsageError, match="takes none"):
        set_density(gate(module, "cgnet"), 0.5)


def test_penalty_is_the_threshold_loss() -> None:
    gated = gate(create_model("resnet8"), "cgnet", start=0.25)
    gated(torch.randn(2, 3, 32, 32))
    channels = 2 * (16 + 32 + 64)
    assert gate_loss(gated).item() == pytest.approx(channels * 0.75**2)
    set_target(gated, -0.5)
    assert gate_loss(gated).item() == pytest.approx(channels * 0.75**2)
    gate_loss(gated).backward()
    assert torch.allclose(gates(gated)["stage1.0.conv1"].threshold.grad, torch.full((16,), 1.5))
    with pytest.raises(ModelError, match="for channel gates"):
        gate_loss(gated, "moe")


def test_divergence_names_the_layer() -> None:
    gated = gate(create_model("resnet8"), "cgnet").train()
    with torch.no_grad():
        gates(gated)["stage2.0.conv1"].threshold[3] = math.nan
    with pytest.raises(TrainingError, match=r"'stage2\.0\.conv1' is no longer finite"):
        gated(torch.randn(2, 3, 32, 32))
    gated.eval()(torch.randn(2, 3, 32, 32))
    with pytest.raises(TrainingError, match=r"'stage2\.0\.conv1' is no longer finite"):
        check_finite(gated)


def test_autocast_decides_as_full_precision_does() -> None:
    torch.manual_seed(0)
    gated = gate(create_model("resnet8"), "cgnet", block=(8, 16)).eval()
    images = torch.randn(2, 3, 32, 32)
    exact = gated(images)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = gated(images)
    # Only the layers between the gated ones are rounded.
    assert (rounded - exact).abs().max() < 0.1 * exact.abs().max()
    gated.train()
    with torch.autocast("cpu", torch.bfloat16):
        assert gated(images).isfinite().all()
