"""Layers that gate() cannot keep: hooks, computed weights, tensors read twice, wrappers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils as nn_utils
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from headgate.errors import ModelError
from headgate.train.gates import find_convolutions, gate, gates
from tests.kept_networks import Whole, distance, reason, same
from tests.networks import conv_bn, randomise


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("change", "part"),
    [
        (nn_utils.weight_norm, "computed by a forward pre hook"),
        (nn_utils.spectral_norm, "computed by a forward pre hook"),
        (lambda c: prune.ln_structured(c, "weight", 0.5, 2, 0), "computed by a forward pre hook"),
        (lambda c: prune.random_unstructured(c, "bias", 0.5), "computed by a forward pre hook"),
        (parametrizations.weight_norm, "parametrization"),
        (parametrizations.spectral_norm, "parametrization"),
        (lambda c: c.register_forward_hook(lambda m, i, o: o * 2), "it has a forward hook"),
        (lambda c: c.register_forward_pre_hook(lambda m, i: i), "it has a forward pre hook"),
        (lambda c: c.register_full_backward_hook(lambda m, i, o: None), "it has a backward hook"),
        (lambda c: setattr(c, "forward", lambda x: nn.Conv2d.forward(c, x)), "was replaced"),
    ],
)
def test_hooks_and_computed_weights_are_refused(change: Callable[[Any], Any], part: str) -> None:
    net = Whole()
    change(net.conv)
    net(torch.randn(1, 3, 8, 8))
    assert part in reason(net, "conv")


@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
def test_hooks_on_a_norm_are_refused(kind: str) -> None:
    net = Whole()
    getattr(net.norm, f"register_{kind}_hook")(lambda *_: None)
    assert "the norm behind it has a" in reason(net, "conv")


def test_hooks_on_other_modules_run_in_the_gated_network_only() -> None:
    torch.manual_seed(0)
    block = nn.Sequential(*conv_bn(8, 8), nn.ReLU())
    net = randomise(nn.Sequential(*conv_bn(3, 8), block, nn.Conv2d(8, 4, 1)))
    seen: list[Any] = []
    block.register_forward_hook(lambda m, i, o: seen.append(type(o)) or o * 2)
    block.register_forward_pre_hook(lambda m, i: (i[0] + 1,))
    gated = same(net)
    assert seen == []
    assert not find_convolutions(net)["0"].inner  # 1 is added to closed channels
    assert distance(gated, net, torch.randn(4, 3, 9, 9)) < 1e-5
    assert set(seen) == {Tensor}


class ReadTwice(Whole):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + F.conv2d(x, self.conv.weight, padding=1)


class NormReadTwice(Whole):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.norm.running_var[:, None, None]


class OnlyItsWeight(Whole):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(F.conv2d(x, self.conv.weight))


class Asking(Whole):
    """What reads a weight twice, for torch.export."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] > 4:
            x = super().forward(x)
        return x + self.conv.weight.mean() + self.norm.bias.sum()


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv_bn(8, 8), conv_bn(8, 8)
        self.b[0].weight = self.a[0].weight

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x))


def test_tensors_that_are_read_a_second_time() -> None:
    twice = "its weight or bias is read by other code too, or shared with another module"
    assert reason(ReadTwice(), "conv") == reason(OnlyItsWeight(), "conv") == twice
    assert "the norm behind it is read by other code" in reason(NormReadTwice(), "conv")
    assert reason(Tied(), "a.0") == twice
    x = torch.randn(1, 8, 8, 8)
    found = find_convolutions(Asking(nn.Conv2d(8, 8, 3, padding=1)), x)
    assert found["conv"].obstacle == twice


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.norm = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.b(self.norm(self.a(x))))


def test_modules_that_run_twice_or_not_yet() -> None:
    assert "used more than once" in reason(Twice(), "a")
    with pytest.raises(ModelError, match="its module '0' is not initialised; call it once"):
        gate(nn.Sequential(nn.LazyConv2d(8, 1), nn.LazyBatchNorm2d()))
    net = Whole(norm=nn.BatchNorm2d(8).train()).eval()
    net.norm.train()
    assert "is in training mode" in reason(net, "conv")


def test_norms_that_stay_frozen_in_training() -> None:
    torch.manual_seed(0)
    net = randomise(Whole()).train()
    net.norm.eval()
    gated = gate(net, density=1.0, predictor_std=0.0)
    x = torch.randn(4, 3, 8, 8)
    assert gates(gated)["conv"].training and torch.allclose(gated(x), net(x), atol=1e-5)


def test_a_cumulative_average_goes_on() -> None:
    torch.manual_seed(0)
    net = Whole(norm=nn.BatchNorm2d(8, momentum=None))
    for _ in range(3):
        net(torch.randn(4, 3, 8, 8))
    gated = same(net)
    x = torch.randn(4, 3, 8, 8)
    net(x), gated(x)
    assert torch.allclose(gated.eval()(x), net.eval()(x), atol=1e-5)


@pytest.mark.parametrize(
    ("wrap", "way_out"),
    [
        (nn.DataParallel, r"wrapped in DataParallel; pass its \.module"),
        (torch.compile, "wrapped in OptimizedModule; compile the gated network"),
        (lambda m: nn.Sequential(torch.compile(m)), "its module '0' is wrapped in OptimizedModule"),
        (lambda m: torch.jit.trace(m, torch.zeros(1, 3, 8, 8)), "wrapped in ScriptModule"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_wrapped_networks_are_refused(wrap: Callable[[Any], nn.Module], way_out: str) -> None:
    with pytest.raises(ModelError, match=way_out):
        gate(wrap(Whole().eval()))
