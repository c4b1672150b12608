"""Depthwise convolutions that follow the gate in front of them."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headgate.errors import ModelError
from headgate.train.gates import (
    FollowingConv2d,
    calibrate,
    find_convolutions,
    gate,
    gate_loss,
    gate_statistics,
    gates,
    set_density,
)
from headgate.train.macs import count_macs
from tests.networks import conv_bn, randomise


class Mobile(nn.Module):
    """Expansion, two depthwise convolutions, one of them without a norm, projection, a sum."""

    def __init__(self, act: type[nn.Module] = nn.ReLU6) -> None:
        super().__init__()
        self.expand, self.act = conv_bn(6, 24, 1), act()
        self.wide, self.narrow = (
            conv_bn(24, 24, 3, groups=24, stride=2),
            nn.Conv2d(24, 24, 3, padding=1, groups=24),
        )
        self.project = conv_bn(24, 6, 1)
        self.skip = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.wide(self.act(self.expand(x))))
        y = y * torch.sigmoid(y)
        return self.project(self.act(self.narrow(y))) + self.skip(x)


def mobile(act: type[nn.Module] = nn.ReLU6) -> nn.Module:
    torch.manual_seed(0)
    return randomise(Mobile(act))


def following(module: nn.Module) -> dict[str, FollowingConv2d]:
    return {p: m for p, m in module.named_modules() if isinstance(m, FollowingConv2d)}


def settled(module: nn.Module, density: float = 0.5, **options: Any) -> nn.Module:
    """Gated so that images keep channels of their own."""
    gated = gate(module, density=density, predictor_std=5.0, **options)
    return gated.eval()


X = torch.randn(5, 6, 8, 8, generator=torch.Generator().manual_seed(3))


def test_which_convolutions_follow_which() -> None:
    found = find_convolutions(mobile())
    assert {p: (c.follows, c.inner, c.obstacle) for p, c in found.items()} == {
        "expand.0": (None, True, None),
        "wide.0": ("expand.0", True, None),
        "narrow": ("expand.0", True, None),
        "project.0": (None, False, None),
    }
    assert {c.follows for c in find_convolutions(mobile(nn.Sigmoid)).values()} == {None}
    assert "depthwise and no gate" in find_convolutions(mobile(nn.Sigmoid))["wide.0"].obstacle
    for layers in (None, "block-inner", "expand.0", ["expand.0", "wide.0"]):
        gated = gate(mobile(), layers=layers)
        assert list(gates(gated)) == ["expand.0", *(["project.0"] if layers is None else [])]
        assert {p: m.leader for p, m in following(gated).items()} == dict.fromkeys(
            ["wide.0", "narrow"], "expand.0"
        )
    with pytest.raises(ModelError, match=r"'wide\.0' cannot be gated: .* follows .*'expand\.0'"):
        gate(mobile(), layers="wide.0")
    with pytest.raises(ModelError, match=r"'wide\.0' cannot be gated: it has 24 groups of its own"):
        gate(mobile(), "cgnet", partitions=2, layers="wide.0")
    pixelwise = gate(mobile(), "cgnet", partitions=2)
    assert not following(pixelwise)


def test_a_leader_that_was_gated_before_is_followed() -> None:
    some = gate(mobile(), layers="expand.0")
    assert list(following(gate(some, layers="project.0"))) == ["wide.0", "narrow"]
    # A first step that could not see them, as cgnet's, leaves them to the second.
    net = mobile()
    before = gate(nn.Sequential(net.expand), layers="0.0")
    net.expand = before[0]
    after = gate(net, layers="wide.0")
    assert list(following(after)) == ["wide.0", "narrow"]
    assert after.wide[0].handover is after.expand[0].handover


@pytest.mark.parametrize("method", ["fbs", "dcp"])
@pytest.mark.parametrize("training", [False, True])
def test_closed_channels_are_zero_and_open_ones_what_they_were(method: str, training: bool) -> None:
    net = mobile()
    gated = gate(net, method, 0.5, predictor_std=5.0, layers="expand.0").train(training)
    net.train(training)
    y = gated.wide[0](gated.act(gated.expand[0](X)))
    closed = gates(gated)["expand.0"].last_gate == 0
    assert closed.any() and not closed.all() and len(closed.unique(dim=0)) > 1
    assert torch.equal(y.abs().amax((2, 3)) == 0, closed)
    inputs = gated.act(copy.deepcopy(gated).expand[0](X))
    expected = net.wide[1](net.wide[0](inputs)) * ~closed[:, :, None, None]
    assert torch.allclose(y, expected, atol=1e-5)
    if training:  # the statistics are of all channels
        norm = gated.wide[0].norm
        assert torch.allclose(norm.running_mean, net.wide[1].running_mean, atol=1e-6)
        assert torch.allclose(norm.running_var, net.wide[1].running_var, atol=1e-6)


def test_gradients_pass_open_channels_alone() -> None:
    gated = settled(mobile())
    for training in (True, False):
        gated.train(training).zero_grad()
        gated(X[:1]).square().sum().backward()
        active = gates(gated)["expand.0"].last_gate[0] != 0
        for layer in following(gated).values():
            reached = layer.weight.grad.abs().sum((1, 2, 3)) != 0
            assert reached[active].any() and not reached[~active].any()


def test_leader_and_followers_share_a_gate_in_every_copy() -> None:
    gated = settled(mobile()).train()
    gated(X).sum().backward()
    y = gated.eval()(X)
    stream = io.BytesIO()
    torch.save(gated, stream)
    stream.seek(0)
    copies = [copy.deepcopy(gated), pickle.loads(pickle.dumps(gated))]
    copies.append(torch.load(stream, weights_only=False))
    other = gated(X[:2])  # another forward between
    for clone in copies:
        leader = clone.expand[0]
        assert leader.handover is not gated.expand[0].handover
        assert all(layer.handover is leader.handover for layer in following(clone).values())
        assert not leader.handover
        with pytest.raises(ModelError, match=r"gate of 'expand\.0', which has not run"):
            clone.wide(torch.zeros(1, 24, 8, 8))
        assert torch.equal(clone(X), y)
    assert torch.equal(gated(X[:2]), other)


def test_state_dict_restores_leader_and_followers() -> None:
    gated = settled(mobile())
    names = {name for name in gated.state_dict() if name.startswith(("wide", "narrow"))}
    assert names == {
        *("wide.0.weight", "wide.0.norm.weight", "wide.0.norm.bias", "narrow.weight"),
        *("wide.0.norm.running_mean", "wide.0.norm.running_var"),
        *("wide.0.norm.num_batches_tracked", "narrow.bias"),
    }
    fresh = gate(Mobile(), density=0.5).eval()
    fresh.load_state_dict(gated.state_dict())
    assert torch.equal(fresh(X), gated(X))


def test_export_takes_the_leaders_gate_itself() -> None:
    gated = settled(mobile())
    program = torch.export.export(gated, (X,))
    assert torch.allclose(program.module()(X), gated(X), atol=1e-6)
    nodes = {
        name: [n for n in program.graph.nodes if f"headgate.{name}" in str(n.target)]
        for name in ("gated_conv2d", "following_conv2d")
    }
    leader, _ = nodes["gated_conv2d"]
    assert [n.args[4] for n in nodes["following_conv2d"]] == [leader.args[4]] * 2
    again = torch.export.export(gated, (X,))  # an export leaves nothing behind
    assert torch.allclose(again.module()(X), gated(X), atol=1e-6)


def test_followers_have_no_entries_of_their_own() -> None:
    gated = settled(mobile())
    gated(X)
    assert list(gates(gated)) == list(gate_statistics(gated)) == ["expand.0", "project.0"]
    expected = sum(layer.penalty() for layer in gates(gated).values())
    assert torch.equal(gate_loss(gated), expected)
    set_density(gated, 0.25)
    y = gated.wide(gated.act(gated.expand(X)))
    assert (y.abs().amax((2, 3)) != 0).sum(1).tolist() == [6] * 5
    dcp = gate(mobile(), "dcp", 0.5, predictor_std=5.0).eval()
    calibrate(dcp, [X])
    dcp(X)
    assert gate_statistics(dcp)["expand.0"].density == pytest.approx(0.5, abs=0.02)


def test_one_dimensional_chain() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv1d(3, 8, 5, 2, 2), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2)),
        *(nn.Conv1d(8, 8, 3, padding=1, groups=8), nn.BatchNorm1d(8), nn.ReLU()),
        nn.Conv1d(8, 4, 1),
    )
    gated = gate(randomise(net), density=0.5, layers="block-inner").eval()
    x = torch.randn(2, 3, 40)
    z = F.relu(gated[4](gated[3](F.relu(gated[0](x)))))
    assert ((z == 0).all(2) >= (gates(gated)["0"].last_gate == 0)).all()
    assert list(following(gated)) == ["4"]
    assert gated(x).shape == net(x).shape


@pytest.mark.parametrize("seed", range(3))
def test_executed_macs_are_the_open_channels(seed: int) -> None:
    torch.manual_seed(seed)
    net = mobile()
    gated = settled(net)
    count = count_macs(gated, X)
    gated(X)
    first, last = (layer.last_gate != 0 for layer in gates(gated).values())
    n = first.sum(1)
    expected = {
        "expand.0": 6 * n * 64,
        "wide.0": n * 9 * 16,
        "narrow": n * 9 * 16,
        "project.0": n * last.sum(1) * 16,
    }
    rows = {row.module: row.executed for row in count.rows if row.operator != "gate"}
    assert all(torch.equal(rows[path], value) for path, value in expected.items())
    assert count.dense == count_macs(net, X).dense and not count.unsupported()
    # Full rank where that is smaller: six images' means to 24, and rank 2 from 24 to 6.
    assert count.gate == 2 * (6 + 24) + 2 * (24 + 6)


def test_checkpointing_takes_the_same_gate() -> None:
    from torch.utils.checkpoint import checkpoint

    gated = settled(mobile()).train()
    other = copy.deepcopy(gated)
    y = gated(X).square().sum()
    y.backward()
    z = checkpoint(other, X, use_reentrant=False).square().sum()
    z.backward()
    for a, b in zip(gated.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-4)
