"""Predictors of gates: full rank as in the papers, low rank where that would cost too much."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from headgate.errors import UsageError
from headgate.train.gates import FollowingConv2d, gate, gates
from headgate.train.gates.predictor import make_predictor
from tests.networks import conv_bn


def predictor(conv: nn.Conv2d, rank: int | None = None, deviation: float = 1.0) -> nn.Module:
    outputs = conv.out_channels
    return make_predictor(
        conv, rank, torch.arange(outputs) / 1.0, torch.full((outputs,), deviation)
    )


@pytest.mark.parametrize(
    ("conv", "rank", "expected"),
    [
        (nn.Conv2d(64, 64, 3), None, None),
        (nn.Conv1d(64, 64, 9), None, None),
        (nn.Conv2d(64, 192, 1), None, 4),  # a tenth of 64 * 192 is 4.8 * (64 + 192)
        (nn.Conv1d(64, 64, 3), None, 9),
        (nn.Conv2d(64, 64, 3, groups=16), None, 2),
        (nn.Conv2d(16, 16, 1), None, 2),
        (nn.Conv2d(3, 8, 1), None, 2),
        (nn.Conv2d(2, 8, 1), None, None),  # no smaller with rank 2
        (nn.Conv2d(64, 64, 3), 5, 5),
        (nn.Conv2d(64, 64, 3), 32, None),
    ],
)
def test_rank(conv: nn.Conv2d, rank: int | None, expected: int | None) -> None:
    made = predictor(conv, rank)
    weights = sum(p.numel() for p in made.parameters()) - conv.out_channels
    if expected is None:
        assert made.reduce is None and weights == conv.in_channels * conv.out_channels
    else:
        assert made.reduce is not None and made.reduce.shape[0] == expected
        assert weights == expected * (conv.in_channels + conv.out_channels)


@pytest.mark.parametrize("rank", [None, 8])
def test_both_start_with_the_same_spread(rank: int | None) -> None:
    torch.manual_seed(0)
    made = predictor(nn.Conv2d(300, 400, 3), rank, 0.5)
    phi = made.weight if made.reduce is None else made.weight @ made.reduce
    assert phi.std().item() == pytest.approx(0.5 * 0.88, rel=0.15)  # a truncated normal's is 0.88
    means = torch.randn(5, 300)
    assert torch.allclose(made(means), torch.arange(400) + means @ phi.T, atol=1e-4)


@pytest.mark.parametrize("rank", [None, 8])
def test_means_are_standardized_by_their_running_statistics(rank: int | None) -> None:
    torch.manual_seed(0)
    bias, deviation = torch.randn(40), torch.ones(40)
    made = make_predictor(nn.Conv2d(30, 40, 3), rank, bias, deviation, standardize=True)
    means = torch.randn(500, 30) * 3 + 5
    made.train()
    for _ in range(100):
        made(means)
    made.eval()
    phi = made.weight if made.reduce is None else made.weight @ made.reduce
    standard = (means - means.mean(0)) / means.std(0)
    assert torch.allclose(made(means), bias + standard @ phi.T, atol=1e-2)


@pytest.mark.parametrize("method", ["fbs", "dcp"])
def test_the_option(method: str) -> None:
    net = nn.Sequential(*conv_bn(16, 32), nn.ReLU(), *conv_bn(32, 16, 1))
    ranks = {
        rank: [
            0 if layer.predictor.reduce is None else layer.predictor.reduce.shape[0]
            for layer in gates(gate(net, method, predictor_rank=rank)).values()
        ]
        for rank in (None, 4)
    }
    assert ranks == {None: [0, 2], 4: [4, 4]}
    for wrong in (0, 2.5, True):
        with pytest.raises(UsageError, match=f"predictor_rank = {wrong!r}, but must be a whole"):
            gate(net, method, predictor_rank=wrong)
    with pytest.raises(UsageError, match="no option 'predictor_rank'"):
        gate(net, "cgnet", predictor_rank=4)


class Inverted(nn.Module):
    """A block of MobileNetV2."""

    def __init__(self, inputs: int, outputs: int, stride: int, factor: int) -> None:
        super().__init__()
        wide = inputs * factor
        expand = [*conv_bn(inputs, wide, 1), nn.ReLU6()] if factor > 1 else []
        depthwise = [*conv_bn(wide, wide, groups=wide, stride=stride), nn.ReLU6()]
        self.body = nn.Sequential(*expand, *depthwise, *conv_bn(wide, outputs, 1))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.adds else self.body(x)


def mobilenet_v2() -> nn.Module:
    blocks: list[nn.Module] = [*conv_bn(3, 32, stride=2), nn.ReLU6()]
    inputs = 32
    for factor, outputs, count, stride in (
        *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
        *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
    ):
        for index in range(count):
            blocks.append(Inverted(inputs, outputs, stride if index == 0 else 1, factor))
            inputs = outputs
    head = [*conv_bn(320, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*blocks, *head, nn.Linear(1280, 1000))


def test_mobilenet_v2_grows_by_less_than_eight_per_cent() -> None:
    net = mobilenet_v2()
    gated = gate(net, method="fbs", density=0.5)
    before, after = (sum(p.numel() for p in m.parameters()) for m in (net, gated))
    assert before == 3_504_872
    assert after < 1.08 * before
    assert len(gates(gated)) == 35
    assert sum(isinstance(layer, FollowingConv2d) for layer in gated.modules()) == 17
