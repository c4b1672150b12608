"""Counting multiply-accumulates: closed forms, and masks on both sides."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from headgate.errors import InputError, ModelError
from headgate.train.gates import gate, gates
from headgate.train.macs import MacCount, count_macs
from headgate.train.macs.handlers import free, keep
from headgate.train.models import create_model


def settle(module: nn.Module) -> nn.Module:
    """Break the ties of fresh predictors well apart."""
    for layer in gates(module).values():
        nn.init.uniform_(layer.predictor.weight, -1, 1)
        nn.init.constant_(layer.predictor.bias, 100.0)
    return module


def without_gates(count: MacCount) -> float:
    return count.executed - count.gate


# MMACs of M-CifarNet against density, ceil per layer, both sides, gates' own cost excluded.
MCIFARNET = {
    1.0: 174.30,
    0.9: 142.82,
    0.8: 113.44,
    0.7: 86.50,
    0.6: 64.01,
    0.5: 43.96,
    0.4: 28.93,
    0.3: 16.64,
}


@pytest.mark.parametrize(("density", "mmacs"), MCIFARNET.items())
def test_mcifarnet_is_the_closed_form(density: float, mmacs: float) -> None:
    torch.manual_seed(0)
    gated = gate(create_model("mcifarnet"), density=density)
    count = count_macs(gated, torch.randn(2, 3, 32, 32))
    assert count.dense / 1e6 == pytest.approx(174.30, abs=0.005)
    assert without_gates(count) / 1e6 == pytest.approx(mmacs, abs=0.005)
    assert count.gate == 143_552  # inputs x outputs of the eight predictors
    assert count.executed_per_image.tolist() == [count.executed] * 2
    assert count.unsupported() == {}


def test_groupings_add_up() -> None:
    torch.manual_seed(0)
    module = create_model("resnet8")
    count = count_macs(gate(module, layers=["stage1.0.conv1"]), torch.randn(2, 3, 32, 32))
    assert count.dense == count_macs(module, torch.zeros(1, 3, 32, 32)).dense
    for groups in (count.by_module, count.by_operator):
        assert sum(m.dense for m in groups.values()) == count.dense
        assert sum(m.executed for m in groups.values()) == pytest.approx(count.executed)
    area = 9 * 32 * 32
    assert count.by_operator["gate"].executed == count.gate == 16 * 16
    assert count.by_module["stage1.0.conv1"].dense == 16 * 16 * area
    assert count.by_module["stage1.0.conv1"].executed == 16 * 8 * area + 16 * 16
    assert count.by_module["stage1.0.conv2"].executed == 8 * 16 * area
    assert count.by_module["stage2.0.conv1"].executed == 16 * 32 * area / 4
    assert vars(count.by_operator["linear"]) == {"dense": 640, "executed": 640.0}
    assert "padding taps included" in count.convention


@settings(max_examples=15)
@given(
    groups=st.sampled_from([1, 2, 3]),
    per_group=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    size=st.integers(5, 8),
    seed=st.integers(0, 1000),
)
def test_grouped_convolution_counts_connected_pairs(
    groups: int, per_group: tuple[int, int], kernel: int, stride: int, size: int, seed: int
) -> None:
    torch.manual_seed(seed)
    middle, outputs = groups * per_group[0], groups * per_group[1]
    module = nn.Sequential(
        nn.Conv2d(2, middle, 1),
        nn.BatchNorm2d(middle),
        nn.ReLU(),
        nn.Conv2d(middle, outputs, kernel, stride, groups=groups),
        nn.BatchNorm2d(outputs),
    )
    gated = settle(gate(module, density=0.5)).eval()
    images = torch.randn(3, 2, size, size)
    count = count_macs(gated, images)
    first = gates(gated)["0"]
    second = gates(gated).get("3", first)  # a depthwise convolution follows the first
    gated(images)
    side = (size - kernel) // stride + 1
    assert count.by_module["3"].dense == groups * math.prod(per_group) * (kernel * side) ** 2
    for n, executed in enumerate(count.executed_per_image.tolist()):
        inputs_on = (first.last_gate[n] != 0).tolist()
        outputs_on = (second.last_gate[n] != 0).tolist()
        pairs = sum(
            on and inputs_on[i]
            for o, on in enumerate(outputs_on)
            for i in range(o // per_group[1] * per_group[0], (o // per_group[1] + 1) * per_group[0])
        )
        expected = 2 * sum(inputs_on) * size**2 + pairs * (kernel * side) ** 2
        assert executed - count.gate == expected


class Paths(nn.Module):
    """Masks through a sum, a concatenation, pools, a split and a flattening."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6))
        self.b = nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6))
        self.of_sum = nn.Conv2d(6, 1, 1)
        self.of_cat = nn.Conv2d(15, 1, 1)
        self.of_half = nn.Conv2d(3, 1, 1)
        self.of_norm = nn.Conv2d(6, 1, 1)
        self.norm = nn.BatchNorm2d(6)
        self.of_flat = nn.Linear(6 * 4, 1)
        self.of_product = nn.Conv2d(6, 1, 1)
        self.of_padded = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        a, b = self.a(x), F.relu(self.b(x))
        pooled = F.avg_pool2d(F.max_pool2d(a, 2), 2)
        return [
            self.of_sum(F.dropout(a + b, 0.5, self.training)),
            self.of_cat(torch.cat([a, x, b], 1)),
            self.of_half(a.chunk(2, 1)[1]),
            self.of_norm(self.norm(a)),
            self.of_flat(torch.flatten(pooled, 1)),
            self.of_product(a * torch.sigmoid(b.mean((2, 3), keepdim=True)) * b),
            self.of_padded(F.pad(a[:, :, ::2, ::2], (1, 1, 1, 1, 1, 1))),
        ]


def test_masks_follow_every_path() -> None:
    torch.manual_seed(0)
    gated = settle(gate(Paths(), density=0.5)).eval()
    images = torch.randn(20, 3, 8, 8)  # more than one chunk, the last one not full
    count = count_macs(gated, images)
    gated(images)
    a, b = (layer.last_gate != 0 for layer in gates(gated).values())
    rows = {row.module: row.executed for row in count.rows if row.operator != "gate"}
    number = {
        "of_sum": (a | b).sum(1) * 64,
        "of_cat": (a.sum(1) + 3 + b.sum(1)) * 64,
        "of_half": a[:, 3:].sum(1) * 64,
        "of_norm": torch.full((20,), 6 * 64),
        "of_flat": a.sum(1) * 4,
        "of_product": (a & b).sum(1) * 64,
        "of_padded": (a.sum(1) + 2) * 36,
    }
    for path, expected in number.items():
        assert torch.equal(rows[path], expected), path
    assert (a | b).sum(1).unique().numel() > 1
    assert count.unsupported() == {}


def test_images_may_differ_in_what_they_execute() -> None:
    torch.manual_seed(0)
    gated = gate(create_model("resnet8"), density=0.5)
    for layer in gates(gated).values():
        nn.init.normal_(layer.predictor.weight, std=3.0)
        nn.init.zeros_(layer.predictor.bias)  # ReLU leaves fewer than k on some images
    count = count_macs(gated, torch.randn(5, 3, 32, 32))
    assert count.executed_per_image.unique().numel() > 1
    assert count.executed == pytest.approx(count.executed_per_image.double().mean().item())
    assert count.executed < 0.6 * count.dense


def test_other_layers() -> None:
    module = nn.Sequential(
        nn.ConvTranspose2d(2, 3, 2, 2), nn.Flatten(2), nn.Linear(16, 5), nn.Conv1d(3, 4, 2)
    )
    count = count_macs(module, torch.zeros(1, 2, 2, 2))
    assert {path: m.dense for path, m in count.by_module.items()} == {
        "0": 2 * 3 * 4 * 4,
        "2": 3 * 16 * 5,
        "3": 3 * 4 * 2 * 4,
    }


class Product(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cumsum(x @ x.transpose(2, 3), 1)


def test_what_depends_on_no_image_is_computed_once_and_costs_nothing() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(5, 4)
            self.register_buffer("shift", torch.ones(5))

        def forward(self, x: Tensor) -> Tensor:
            weight = self.linear.weight
            return F.linear(x, weight @ torch.eye(5), weight @ self.shift)

    count = count_macs(Scaled(), torch.randn(3, 5))
    assert (count.dense, count.executed, count.unsupported()) == (20, 20, {})


@pytest.mark.parametrize("taps", [3, 1])
def test_a_gate_that_standardizes_costs_its_predictor_and_no_more(taps: int) -> None:
    network = nn.Sequential(nn.Conv2d(15, 13, taps), nn.BatchNorm2d(13), nn.ReLU()).eval()
    gated = gate(network, method="dcp", density=0.5, standardize=True)
    count = count_macs(gated, torch.randn(2, 15, 6, 6))
    assert count.gate == (15 * 13 if taps == 3 else 2 * (15 + 13))


def test_unknown_operators_are_listed_not_hidden() -> None:
    example = torch.zeros(2, 3, 4, 5)
    count = count_macs(Product(), example)
    assert count.by_operator["matmul"].dense == 3 * 4 * 5 * 4
    assert count.unsupported() == {"aten.cumsum": 1}

    more = count_macs(Product(), example, handlers={"aten.cumsum": free(keep)})
    assert more.unsupported() == {}


class Stubborn(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum().item() > 0 else -x


def test_refusals() -> None:
    module = create_model("resnet8")
    with pytest.raises(InputError, match=r"shape \(2, 3, 16, 16\), expected \(M, 3, 32, 32\)"):
        count_macs(module, torch.zeros(1, 3, 32, 32), torch.zeros(2, 3, 16, 16))
    with pytest.raises(InputError, match="M > 0"):
        count_macs(module, torch.zeros(1, 3, 32, 32), torch.zeros(0, 3, 32, 32))
    with pytest.raises(ModelError, match="Stubborn cannot be exported"):
        count_macs(Stubborn(), torch.zeros(1, 3))


def test_counting_leaves_the_mode_alone() -> None:
    module = create_model("resnet8").train()
    module.stage2.eval()
    count_macs(module, torch.zeros(1, 3, 32, 32))
    assert module.stage1.training and not any(m.training for m in module.stage2.modules())


@pytest.mark.parametrize(
    ("bounds", "executed"), [((0.0, 6.0), 0.5), ((-1.0, None), 0.5), ((1.0, 6.0), 1.0)]
)
def test_a_clamp_keeps_channels_closed_where_zero_is_within_its_bounds(
    bounds: tuple[float, float | None], executed: float
) -> None:
    class Clamped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 8, 1)
            self.norm = nn.BatchNorm2d(8)
            self.second = nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(torch.clamp(self.norm(self.first(x)), *bounds))

    module = gate(Clamped(), density=0.5, layers=["first"]).eval()
    images = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    second = count_macs(module, images[:1], images).by_module["second"]
    assert second.dense == 8 * 4 * 25
    assert second.executed == executed * second.dense
