"""Gates where there is no batch norm: a bias only, or a norm of each channel of each image."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headgate.errors import ModelError
from headgate.train.gates import find_convolutions, gate, gates
from headgate.train.macs import count_macs


def layers_of(module: nn.Module) -> dict[str, bool]:
    """Convolutions that can be gated, and whether they are unasked."""
    return {p: c.usual for p, c in find_convolutions(module).items() if c.obstacle is None}


class Detector(nn.Module):
    """A backbone without norms, squeeze and excitation, a shortcut, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.reduce, self.expand = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.shortcut = nn.Conv2d(3, 8, 1)
        self.body, self.last = nn.Conv2d(8, 6, 3), nn.Conv2d(6, 6, 1)
        self.head = nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        half = y.shape[2] // 2  # reads no numbers
        y = F.max_pool2d(F.relu(y), 2)
        y = F.silu(self.second(y))
        y = y * torch.sigmoid(self.expand(F.relu(self.reduce(F.adaptive_avg_pool2d(y, 1)))))
        y = y + F.interpolate(self.shortcut(x), (half, half))
        y = self.body(y)
        y = y * torch.sigmoid(y)
        return self.head(self.last(y))


def test_which_are_gated_unasked() -> None:
    assert layers_of(Detector()) == {
        "stem": True,
        "second": True,
        "reduce": False,
        "expand": False,
        "shortcut": False,
        "body": True,
        "last": True,
        "head": False,
    }
    torch.manual_seed(0)
    net, x = Detector().eval(), torch.randn(2, 3, 12, 12)
    every = gate(net, density=1.0, predictor_std=0.0, layers="*")
    assert len(gates(every)) == 8
    assert torch.allclose(every(x), net(x), atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_bias_is_the_shift_and_nothing_is_normalised(training: bool, bias: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 8, 3, padding=1, bias=bias)
    conv.weight.data[2] = 0
    gated = gate(nn.Sequential(conv, nn.ReLU()), density=0.5).train(training)
    layer, x = gates(gated)["0"], torch.randn(4, 3, 6, 6)
    y = layer(x)
    g = layer.last_gate
    v = F.conv2d(x, layer.weight, padding=1)
    shift = conv.bias if bias else torch.zeros(8)
    expected = torch.where(g != 0, 1.0, 0.0)[:, :, None, None] * (
        g[:, :, None, None] * v + shift[:, None, None]
    )
    assert torch.allclose(y, expected, atol=1e-6)
    assert set(layer.state_dict()) == {"weight", "shift", "predictor.weight", "predictor.bias"}
    norms = conv.weight.flatten(1).norm(dim=1)
    assert torch.allclose(layer.predictor.bias, norms.clamp_min(1e-3))
    assert torch.allclose(layer.weight.flatten(1).norm(dim=1), (norms > 0).float(), atol=1e-6)


def norms(kind: str, channels: int) -> nn.Module:
    return {
        "instance": lambda: nn.InstanceNorm2d(channels),
        "affine": lambda: nn.InstanceNorm2d(channels, affine=True, eps=1e-3),
        "groups": lambda: nn.GroupNorm(channels, channels),
    }[kind]()


@pytest.mark.parametrize("kind", ["instance", "affine", "groups"])
@pytest.mark.parametrize("variant", ["official", "paper"])
def test_a_norm_of_each_image(kind: str, variant: str) -> None:
    torch.manual_seed(0)
    norm = norms(kind, 8)
    if norm.weight is not None:
        norm.weight.data = torch.tensor([0, 1e-5, -1e-5, 1, -1, 0.5, -0.5, 2.0])
        nn.init.normal_(norm.bias)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.Conv2d(8, 4, 1))
    gated = gate(net, density=1.0, predictor_std=0.0, variant=variant, layers=["0"])
    x = torch.randn(4, 3, 7, 7)
    for training in (True, False):
        assert torch.allclose(gated.train(training)(x), net.train(training)(x), atol=1e-5)

    half = gate(net, density=0.5, variant=variant, predictor_std=3.0, layers=["0"])
    trained = half.train()[0](x)
    closed = half[0].last_gate == 0
    y = half.eval()[0](x)
    assert closed.any() and torch.equal(y.abs().amax((2, 3)) == 0, closed)
    assert torch.allclose(y, trained, atol=1e-5)
    graph = torch.export.export(half, (x,)).graph
    following, gated_node = (
        next(n for n in graph.nodes if f"headgate.{name}" in str(n.target))
        for name in ("following_conv2d", "gated_conv2d")
    )
    assert following.args[4] is gated_node.args[4]
    assert gated_node.args[9] == 8 and list(gated_node.args[6:9]) == [[1, 1], [0, 0], [1, 1]]

    count, dense = count_macs(half, x), count_macs(net, x).dense
    assert count.dense == dense and count.unsupported() == {}
    open_ = (~closed).sum(1)
    assert torch.equal(count.executed_per_image - count.gate, open_ * (27 + 4) * 25)


def test_norms_over_several_channels_are_refused() -> None:
    def obstacle(norm: nn.Module) -> str:
        net = nn.Sequential(nn.Conv2d(3, 8, 3), norm)
        with pytest.raises(ModelError, match="layer '0' cannot be gated"):
            gate(net, layers=["0"])
        return find_convolutions(net)["0"].obstacle or ""

    assert "statistics over 4 channels" in obstacle(nn.GroupNorm(2, 8))
    assert "keeps running statistics" in obstacle(nn.InstanceNorm2d(8, track_running_stats=True))
    own = type("Own", (nn.GroupNorm,), {"forward": lambda self, x: x})
    assert "a Own, computes something of its own" in obstacle(own(8, 8))
    assert "not read by a batch norm module alone" in obstacle(nn.LayerNorm([8, 5, 5]))

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return F.group_norm(self.conv(x), 2)

    assert "not read by a batch norm" in find_convolutions(Functional())["conv"].obstacle


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("method", ["fbs", "dcp"])
def test_one_dimension_is_two_of_height_one(method: str, norm: str) -> None:
    torch.manual_seed(0)
    geometry = {"stride": 2, "padding": 3, "dilation": 2, "groups": 2}
    flat = nn.Conv1d(4, 8, 5, **geometry)
    wide = nn.Conv2d(4, 8, (1, 5), (1, 2), (0, 3), (1, 2), 2)
    wide.weight.data, wide.bias.data = flat.weight.data.unsqueeze(2), flat.bias.data
    behind = {
        "batch": (nn.BatchNorm1d(8), nn.BatchNorm2d(8)),
        "instance": (nn.InstanceNorm1d(8), nn.InstanceNorm2d(8)),
        "none": (nn.Identity(), nn.Identity()),
    }[norm]
    torch.manual_seed(1)
    a = gate(nn.Sequential(flat, behind[0], nn.ReLU()), method, 0.5, predictor_std=3.0)
    torch.manual_seed(1)
    b = gate(nn.Sequential(wide, behind[1], nn.ReLU()), method, 0.5, predictor_std=3.0)
    x = torch.randn(3, 4, 21)
    for training in (True, False):
        y = a.train(training)(x)
        assert torch.allclose(y, b.train(training)(x.unsqueeze(2)).squeeze(2), atol=1e-6)
    assert gates(a)["0"].weight.shape == flat.weight.shape == a.state_dict()["0.weight"].shape
    assert torch.equal(gates(a)["0"].last_gate, gates(b)["0"].last_gate)
    program = torch.export.export(a, (x,))
    assert torch.allclose(program.module()(x), y, atol=1e-6)
    assert count_macs(a, x).executed == count_macs(b, x.unsqueeze(2)).executed
    assert count_macs(a, x).unsupported() == {}
    with pytest.raises(ModelError, match="it is one-dimensional"):
        gate(nn.Sequential(copy.deepcopy(flat), nn.BatchNorm1d(8)), "cgnet")


def test_cgnet_needs_a_batch_norm() -> None:
    with pytest.raises(ModelError, match="no batch norm is behind it"):
        gate(nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU()), "cgnet")
