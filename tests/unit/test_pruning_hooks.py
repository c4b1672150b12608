"""Removing channels where weights are computed, hooks are set, or code reaches into a layer."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from headgate.errors import ModelError
from headgate.train.pruning import (
    PlaceChannels,
    add_masks,
    choose_layers,
    find_prunable,
    remove_channels,
)
from headgate.train.pruning.masks import masked_norms, without_masks
from tests.networks import conv_bn, randomise

KEPT = [0, 2, 5]


def plain(between: nn.Module | None = None) -> nn.Sequential:
    """conv 0, norm 1, activation 2, conv 3, norm 4, and a linear layer 8."""
    torch.manual_seed(0)
    layers = [*conv_bn(3, 8), between or nn.ReLU(), *conv_bn(8, 8), nn.ReLU()]
    tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)]
    return randomise(nn.Sequential(*layers, *tail)).double()


def images() -> Tensor:
    return torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1)).double()


def assert_pruned_rightly(net: nn.Module, conv: str = "0", norm: str = "1") -> nn.Module:
    """Removed channels are what a norm whose factor and shift are zero gives, or its shift."""
    inner = find_prunable(net)[conv].inner
    small = remove_channels(net, {conv: KEPT})
    factors = net.get_submodule(norm)
    before = factors.weight.data.clone(), factors.bias.data.clone()
    gone = [channel for channel in range(8) if channel not in KEPT]
    wanted_constant = None if inner else _constant(net.get_submodule(norm))
    factors.weight.data[gone] = 0
    factors.bias.data[gone] = 0 if inner else wanted_constant[gone]
    wanted = net(images())
    factors.weight.data, factors.bias.data = before
    torch.testing.assert_close(small(images()), wanted, rtol=1e-10, atol=1e-10)
    assert small.get_submodule(conv).out_channels == len(KEPT)
    return small


def _constant(norm: nn.BatchNorm2d) -> Tensor:
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return (norm.bias - norm.running_mean * scale).detach()


WRAPPERS: dict[str, Callable[[nn.Module], Any]] = {
    "weight norm": lambda part: weight_norm(part),
    "spectral norm": lambda part: spectral_norm(part),
    "mask": lambda part: prune.l1_unstructured(part, "weight", 0.5),
    "bias mask": lambda part: prune.random_unstructured(part, "bias", 0.5),
    "new weight norm": parametrizations.weight_norm,
    "new spectral norm": parametrizations.spectral_norm,
    "hook": lambda part: part.register_forward_hook(lambda m, x, y: y * 2),
    "pre-hook": lambda part: part.register_forward_pre_hook(lambda m, x: (x[0] + 1,)),
}
READERS = [(path, wrapper) for path in ("3", "8") for wrapper in WRAPPERS]
READERS.remove(("3", "bias mask"))  # a convolution without a bias
LAYERS = [("0", wrapper) for wrapper in WRAPPERS if wrapper != "bias mask"]
LAYERS += [("1", wrapper) for wrapper in ("mask", "bias mask", "hook", "pre-hook")]


def wrapped(net: nn.Module, path: str, wrapper: str) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        WRAPPERS[wrapper](net.get_submodule(path))
    net(images())
    return net


@pytest.mark.parametrize(("path", "wrapper"), READERS)
def test_a_reader_that_is_more_than_its_weights_stays_whole(path: str, wrapper: str) -> None:
    # With gradients on, weights that are computed belong to a graph, which torch does not copy.
    net = wrapped(plain(), path, wrapper)
    conv, norm = ("0", "1") if path == "3" else ("3", "4")
    small = assert_pruned_rightly(net, conv, norm)
    assert isinstance(small.get_submodule(f"{norm}.place"), PlaceChannels)


@pytest.mark.parametrize(("path", "wrapper"), LAYERS)
def test_a_layer_that_is_more_than_its_weights_is_refused(path: str, wrapper: str) -> None:
    net = wrapped(plain(), path, wrapper)
    assert list(find_prunable(net)) == ["3"]
    with pytest.raises(
        ModelError, match=r"layer '0' cannot lose channels: .*(hook|parametri)"
    ) as e:
        remove_channels(net, {"0": KEPT})
    assert "\n" not in str(e.value)
    # Others are none of its business.
    small = remove_channels(net, {"3": KEPT})
    assert small.get_submodule("3").out_channels == 3


@pytest.mark.parametrize(("path", "placed"), [("2", True), ("5", True), ("7", True), ("", False)])
def test_hooks_between_are_taken_into_account(path: str, placed: bool) -> None:
    net = plain()
    net.get_submodule(path).register_forward_hook(lambda m, x, y: y + 1)
    conv, norm = ("0", "1") if path == "2" else ("3", "4")
    small = assert_pruned_rightly(net, conv, norm)
    assert hasattr(small.get_submodule(norm), "place") == placed


def test_a_hook_that_collects_sees_no_stand_ins() -> None:
    net, seen = plain(), []
    net[2].register_forward_hook(lambda m, x, y: seen.append(y))
    remove_channels(net, {"0": KEPT})
    assert seen == []


@pytest.mark.parametrize(
    ("between", "inner"),
    [
        (nn.Hardtanh(0.5, 2.0), False),
        (nn.Hardtanh(-2.0, -0.5), False),
        (nn.Hardtanh(0.0, 2.0), True),
        (nn.ReLU6(), True),
        (nn.Threshold(0.5, 3.0), False),
        (nn.Softplus(), False),
        (nn.AlphaDropout(), False),
        (nn.CELU(), True),
    ],
)
def test_activations_that_are_not_zero_at_zero(between: nn.Module, inner: bool) -> None:
    net = plain(between)
    assert find_prunable(net)["0"].inner == inner
    assert_pruned_rightly(net)


class Code(nn.Module):
    """Two convolutions, and code of the network's own between."""

    def __init__(self, code: Callable[[Code, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.read = nn.Conv2d(8, 8, 3, padding=1)
        self.aliases = nn.ModuleList([self.norm])
        self.code = code

    def forward(self, x: Tensor) -> Tensor:
        return self.code(self, x)


def code(function: Callable[[Code, Tensor], Tensor]) -> nn.Module:
    torch.manual_seed(0)
    return randomise(Code(function)).double()


def inner(net: Code, x: Tensor) -> Tensor:
    return F.relu(net.norm(net.conv(x)))


@pytest.mark.parametrize(
    "function",
    [
        lambda net, x: net.read(F.hardtanh(net.norm(net.conv(x)), 0.5, 2.0)),
        lambda net, x: net.read(F.hardtanh(net.norm(net.conv(x)), min_val=0.5, max_val=2.0)),
        lambda net, x: (
            net.read(inner(net, x)) + F.conv2d(inner(net, x), net.read.weight, padding=1)
            if False
            else net.read(y := inner(net, x)) + F.conv2d(y, net.read.weight, padding=1)
        ),
        lambda net, x: net.aliases[0](net.conv(x)) + 1,
        lambda net, x: F.relu(net.aliases[0](net.conv(x))) + x.mean(),
    ],
    ids=["hardtanh", "hardtanh by name", "reader's weight read twice", "alias", "alias, sum"],
)
def test_code_of_the_networks_own(function: Callable[[Code, Tensor], Tensor]) -> None:
    assert_pruned_rightly(code(function), "conv", "norm")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda net, x: net.read(inner(net, x)) + F.conv2d(x, net.conv.weight, padding=1),
            "is read by other code too",
        ),
        (
            lambda net, x: net.read(inner(net, x)) * net.norm.weight.sum(),
            "is read by other code too",
        ),
        (
            lambda net, x: inner(net, x).reshape(2, net.conv.out_channels, -1),
            "with fewer of them its code does something else at 'reshape'",
        ),
    ],
    ids=["weight", "norm's weight", "width"],
)
def test_code_that_needs_the_whole_layer_is_refused(
    function: Callable[[Code, Tensor], Tensor], message: str
) -> None:
    with pytest.raises(ModelError, match=f"cannot lose channels: .*{message}"):
        remove_channels(code(function), {"conv": KEPT})


def test_layers_may_be_called_by_keyword() -> None:
    net = code(lambda net, x: net.read(input=F.relu(input=net.norm(input=net.conv(input=x)))))
    assert list(choose_layers(net, ["conv"])) == ["conv"]
    with pytest.raises(ModelError, match="has no convolution to prune"):
        choose_layers(net)
    assert_pruned_rightly(net, "conv", "norm")


class ActivatedNorm(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(super().forward(x))


def test_a_norm_that_does_more_is_refused() -> None:
    net = plain()
    norm = ActivatedNorm(8)
    norm.load_state_dict(net[1].state_dict())
    net[1] = norm.eval().double()
    with pytest.raises(ModelError, match=r"'0' cannot lose channels: .*ActivatedNorm"):
        remove_channels(net, {"0": KEPT})


@pytest.mark.parametrize(
    ("path", "message"), [("grouped", "it is grouped"), ("free", "no batch norm .*reads it")]
)
def test_reasons_for_ordinary_layers(path: str, message: str) -> None:
    net = nn.Sequential()
    net.add_module("grouped", nn.Conv2d(4, 4, 3, groups=2))
    net.add_module("norm", nn.BatchNorm2d(4))
    net.add_module("free", nn.Conv2d(4, 4, 3))
    with pytest.raises(ModelError, match=f"layer '{path}' cannot lose channels: {message}"):
        remove_channels(net, {path: [0]})


def test_masks_run_under_every_name_of_a_norm() -> None:
    net = code(lambda net, x: F.relu(net.aliases[0](net.conv(x))) + 1)
    masked = add_masks(copy.deepcopy(net), find_prunable(net).values())
    (norm,) = masked_norms(masked).values()
    norm.kept[1] = False
    assert bool((masked(images())[:, 1] == F.relu(norm.bias[1]) + 1).all())
    small = remove_channels(*without_masks(masked))
    torch.testing.assert_close(small(images()), masked(images()), rtol=1e-10, atol=1e-10)
