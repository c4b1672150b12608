"""Work by hardness: the distance, what it teaches, and what it is refused for."""

from __future__ import annotations

import pytest
import torch

from headgate.errors import ModelError, UsageError
from headgate.train.gates import gate, gate_loss, gate_statistics
from headgate.train.gates.hardness import effort_distance
from headgate.train.models import create_model
from tests.gated_networks import INNER, dcp_layers


def test_distance_is_nothing_where_shares_follow_the_order_of_hardness() -> None:
    opened = torch.tensor([[-1.0, -1, -1, -1], [1, 1, -1, -1], [1, 1, 1, 1]])
    order = torch.tensor([0.1, 7.0, 90.0])  # ranks ask for shares of 0, a half and 1
    assert effort_distance(opened, order, 0.5).item() == 0
    # The other way round 0 and 1 are wrong by 1 each: a mean of squares of two thirds.
    assert effort_distance(opened, -order, 0.5).item() == pytest.approx(2 / 3)
    # Around 0.25 they ask for 0, a quarter and a half: wrong by 0, a quarter and a half.
    assert effort_distance(opened, order, 0.25).item() == pytest.approx((1 / 16 + 1 / 4) / 3)


def test_equals_and_single_images_have_the_middle_of_their_ranks() -> None:
    half = torch.tensor([[1.0, -1.0]])
    assert effort_distance(half, torch.tensor([3.0]), 0.5).item() == 0
    three = torch.tensor([[1.0, -1, -1, -1], [1, -1, -1, -1], [1, 1, 1, 1]])
    assert effort_distance(three, torch.tensor([0.0, 0.0, 1.0]), 0.5).item() == 0


@pytest.mark.parametrize("hardness", [[1.0], [1.0, float("nan")], [[1.0, 2.0]]])
def test_hardness_is_a_number_for_each_image(hardness: list[float]) -> None:
    with pytest.raises(UsageError, match="one finite number for each of 2 images"):
        effort_distance(torch.zeros(2, 3), torch.tensor(hardness), 0.5)


def test_gradient_opens_for_hard_images_and_closes_for_easy_ones() -> None:
    margins = torch.zeros(3, 4, requires_grad=True)
    effort_distance(margins, torch.tensor([5.0, 0.1, 1.0]), 0.5).backward()
    assert margins.grad is not None
    # Nothing is open: images of wanted shares 1, 0 and a half are wrong by that much.
    assert margins.grad[:, 0].tolist() == pytest.approx([-1 / 24, 0.0, -1 / 48])


def test_images_come_to_cost_what_their_hardness_asks_for() -> None:
    torch.manual_seed(0)
    gated = gate(
        create_model("resnet8"), method="dcp", density=0.5, layers=INNER, standardize=True
    ).train()
    hardness = torch.linspace(1.5, 0.5, 32)
    images = torch.randn(32, 3, 32, 32) * hardness[:, None, None, None]
    predictors = [p for layer in dcp_layers(gated) for p in layer.predictor.parameters()]
    optimizer = torch.optim.Adam(predictors, 0.05)
    for _ in range(20):
        gated(images)
        optimizer.zero_grad()
        gate_loss(gated, "hardness", hardness).backward()
        optimizer.step()
    for path, found in gate_statistics(gated).items():
        assert found.density == pytest.approx(0.5, abs=0.05), path
        easy, hard = found.active[16:].double().mean(), found.active[:16].double().mean()
        assert hard > 1.5 * easy, path


def test_what_has_no_choice_is_asked_for_nothing() -> None:
    images, hardness = torch.randn(4, 3, 32, 32), torch.rand(4)
    gated = gate(create_model("resnet8"), method="dcp", density=1.0, layers=INNER).train()
    gated(images)
    assert gate_loss(gated, "hardness", hardness).item() == 0
    with pytest.raises(UsageError, match="needs how hard each image is"):
        gate_loss(gated, "hardness")
    ranked = gate(create_model("resnet8"), density=0.5, layers=INNER).train()
    ranked(images)
    with pytest.raises(ModelError, match="gate loss 'hardness' is for gates with a threshold"):
        gate_loss(ranked, "hardness", hardness)
