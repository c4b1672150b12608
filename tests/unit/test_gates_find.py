"""Gating networks of no family of ours: what tracing finds, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headgate.errors import ModelError, UsageError
from headgate.train.gates import find_convolutions, gate, gates
from headgate.train.models import create_model


class Branches(nn.Module):
    """Two branches, concat, a 5x5 stride-3 convolution, odd channels, functional ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 11, 3, padding="same")
        self.stem_norm = nn.BatchNorm2d(11)
        self.left = nn.Sequential(nn.Conv2d(11, 7, 5, 3, 2, bias=False), nn.BatchNorm2d(7))
        self.right = nn.Conv2d(11, 6, 3, 3, 1, bias=False)
        self.right_norm = nn.BatchNorm2d(6)
        self.depthwise = nn.Conv2d(13, 13, 3, padding=1, groups=13, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(13)
        self.head = nn.Conv2d(13, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem(x)))
        x = torch.cat([self.left(x).relu(), F.relu(self.right_norm(self.right(x)))], 1)
        x = F.relu(self.depthwise_norm(self.depthwise(x)))
        return self.head(F.max_pool2d(x, 2)).mean((2, 3))


class Untraceable(nn.Module):
    """Control flow on a shape, which torch.fx cannot follow and torch.export can."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)))
        if x.shape[2] > 4:
            x = F.max_pool2d(x, 2)
        return self.second(x)


class Awkward(nn.Module):
    """One convolution for each reason not to gate."""

    def __init__(self) -> None:
        super().__init__()
        self.read_twice = nn.Conv2d(3, 4, 1)
        self.norm1 = nn.BatchNorm2d(4)
        self.run_twice = nn.Conv2d(4, 4, 1)
        self.norm2 = nn.BatchNorm2d(4)
        self.reflecting = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
        self.norm3 = nn.BatchNorm2d(4)
        self.memoryless = nn.Conv2d(4, 4, 1)
        self.norm4 = nn.BatchNorm2d(4, track_running_stats=False)
        self.own = Standardised(4, 4, 1)
        self.norm5 = nn.BatchNorm2d(4)
        self.uneven = nn.Conv2d(4, 4, 2, padding="same")
        self.norm6 = nn.BatchNorm2d(4)
        self.weighted = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1))
        self.norm7 = nn.BatchNorm2d(4)
        self.good = nn.Conv2d(4, 4, 1)
        self.norm8 = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.read_twice(x)
        x = self.norm1(x) + x
        x = self.norm2(self.run_twice(self.run_twice(x)))
        x = self.norm3(self.reflecting(x))
        x = self.norm4(self.memoryless(x))
        x = self.norm5(self.own(x))
        x = self.norm6(self.uneven(x))
        x = self.norm7(self.weighted(x))
        return self.norm8(self.good(x))


class Standardised(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        return self._conv_forward(input, self.weight - self.weight.mean(), self.bias)


def settle(module: nn.Module, *shape: int) -> nn.Module:
    """Give the batch norms a history."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    module.train()(torch.randn(8, *shape))
    return module.eval()


def test_branches_are_gated_where_a_batch_norm_follows() -> None:
    torch.manual_seed(0)
    module = settle(Branches(), 3, 19, 19)
    found = find_convolutions(module)
    assert list(found) == ["stem", "left.0", "right", "depthwise", "head"]
    assert found["left.0"].norm == "left.1"
    assert found["depthwise"].obstacle == "it is depthwise and no gate is in front"
    assert found["head"].obstacle is None and not found["head"].usual
    gated = gate(module, density=1.0, predictor_std=0.0)
    assert list(gates(gated)) == ["stem", "left.0", "right"]
    x = torch.randn(2, 3, 19, 19)
    assert torch.allclose(gated(x), module(x), atol=1e-5)
    half = gate(module, density=0.5)
    assert half(x).isfinite().all()
    assert [layer.active for layer in gates(half).values()] == [6, 4, 3]


def test_network_that_only_torch_export_follows() -> None:
    torch.manual_seed(0)
    module = settle(Untraceable(), 3, 12, 12)
    with pytest.raises(ModelError, match="pass example_input="):
        gate(module)
    x = torch.randn(1, 3, 12, 12)
    found = find_convolutions(module, x)
    assert [(c.path, c.norm, c.inner) for c in found.values()] == [
        ("conv", "norm", True),
        ("second", None, False),
    ]
    gated = gate(module, density=1.0, predictor_std=0.0, example_input=x)
    assert torch.allclose(gated(x), module(x), atol=1e-5)


def test_reasons_not_to_gate() -> None:
    obstacles = {p: c.obstacle for p, c in find_convolutions(Awkward()).items()}
    expected = {
        "read_twice": "not read by a batch norm",
        "run_twice": "more than once",
        "reflecting": "'reflect'",
        "memoryless": "no running statistics",
        "own": "Standardised computes something of its own",
        "uneven": "not symmetric",
        "weighted": "parametrization",
    }
    for path, part in expected.items():
        assert part in (obstacles[path] or ""), path
        with pytest.raises(ModelError, match=f"layer '{path}' cannot be gated"):
            gate(Awkward(), layers=[path])
    assert obstacles["good"] is None
    assert list(gates(gate(Awkward()))) == ["good"]


def test_layers_are_chosen_by_pattern() -> None:
    module = create_model("resnet20")
    assert list(gates(gate(module, layers="stage2.*.conv1"))) == [
        "stage2.0.conv1",
        "stage2.1.conv1",
        "stage2.2.conv1",
    ]
    assert list(gates(gate(module, layers=["conv", "stage1.0.conv2"]))) == [
        "conv",
        "stage1.0.conv2",
    ]
    with pytest.raises(UsageError, match=r"'stage9\.\*' matches no convolution"):
        gate(module, layers=["conv", "stage9.*"])
    with pytest.raises(ModelError, match="no convolution that can be gated"):
        gate(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)))
    with pytest.raises(ModelError, match="name the layers to gate, for example '0'"):
        gate(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()))
    with pytest.raises(ModelError, match="it has no convolution without a gate"):
        gate(gate(create_model("mcifarnet")))


def test_block_inner_leaves_residual_sums_dense() -> None:
    def inner(name: str) -> list[str]:
        return [p for p, c in find_convolutions(create_model(name)).items() if c.inner]

    blocks = [f"stage{stage}.{block}" for stage in (1, 2, 3) for block in range(3)]
    assert inner("resnet20") == [f"{block}.conv1" for block in blocks]
    assert len(inner("resnet18")) == 8
    assert len(inner("resnet50")) == 32
    gated = gate(create_model("resnet20"), layers="block-inner")
    assert list(gates(gated)) == [f"{block}.conv1" for block in blocks]
    with pytest.raises(ModelError, match="name the layers to gate"):
        gate(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), layers="block-inner")


def test_gates_can_be_added_in_two_steps() -> None:
    some = gate(create_model("mcifarnet"), density=1.0, layers=["features.conv1"])
    both = gate(some, density=0.5, layers=["features.conv2"])
    assert {p: m.density for p, m in gates(both).items()} == {
        "features.conv1": 1.0,
        "features.conv2": 0.5,
    }
