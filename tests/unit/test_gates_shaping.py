"""Batch shaping: the prior's distribution function, the distance, and what it teaches."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from headgate.errors import ModelError
from headgate.train.gates import gate, gate_loss, gate_statistics
from headgate.train.gates.frozen import channel_places, freeze
from headgate.train.gates.shaping import batch_shaping, beta_cdf
from headgate.train.models import create_model
from tests.gated_networks import INNER, dcp_layers


def test_the_prior_of_a_half_is_the_arcsine_law() -> None:
    t = torch.linspace(-70, 70, 501, dtype=torch.float64, requires_grad=True)
    found = beta_cdf(t, 0.5)
    assert torch.allclose(found, 2 / math.pi * torch.atan(torch.exp(t / 2)), atol=1e-6)
    (slope,) = torch.autograd.grad(found.sum(), t)
    inside = t.detach().abs() < 60
    wanted = 1 / (2 * math.pi * torch.cosh(t.detach() / 2))
    assert torch.allclose(slope[inside], wanted[inside], atol=1e-9)


@pytest.mark.parametrize("mean", [0.3, 0.5, 0.7])
def test_the_prior_is_that_of_beta_numbers(mean: float) -> None:
    torch.manual_seed(0)
    x = torch.distributions.Beta(mean, 1 - mean).sample((50_000,)).double()
    for edge in (-4.0, -1.0, 0.0, 2.0):
        share = (x <= 1 / (1 + math.exp(-edge))).double().mean().item()
        assert beta_cdf(torch.tensor(edge), mean).item() == pytest.approx(share, abs=0.01)
    assert x.mean().item() == pytest.approx(mean, abs=0.01)


def test_logits_that_are_spread_as_the_prior_have_no_distance() -> None:
    torch.manual_seed(0)
    spread = torch.logit(torch.distributions.Beta(0.5, 0.5).sample((1000, 3)).double(), eps=1e-12)
    assert batch_shaping(spread, 0.5).item() < 1e-3
    # Always open: F is 1, and the mean of (1 - u)^2 over u of (0, 1) is a third; closed likewise.
    for always in (50.0, -50.0):
        assert batch_shaping(torch.full((1000, 1), always), 0.5).item() == pytest.approx(
            1 / 3, abs=2e-3
        )


def test_shaping_opens_for_some_images_what_was_open_for_all_or_none() -> None:
    torch.manual_seed(0)
    gated = gate(
        create_model("resnet8"), method="dcp", density=0.5, layers=INNER, standardize=True
    ).train()
    with torch.no_grad():
        for layer in dcp_layers(gated):
            torch.nn.init.normal_(layer.predictor.bias, 0, 3)
    with pytest.raises(ModelError, match="has not run"):
        gate_loss(gated, "shaping")
    images = torch.randn(32, 3, 32, 32) * torch.rand(32, 3, 1, 1) * 2
    predictors = [p for layer in dcp_layers(gated) for p in layer.predictor.parameters()]
    optimizer = torch.optim.Adam(predictors, 0.05)
    shares, losses = [], []
    for _ in range(16):
        gated(images)
        loss = gate_loss(gated, "shaping")
        found = [s.dynamics() for s in gate_statistics(gated).values()]
        shares.append(sum(f.dynamic for f in found) / 112)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 3
    assert shares[0] < 0.5 < 0.8 < shares[-1]
    assert copy.deepcopy(gated) is not gated  # logits of a forward are not copied with it


def test_what_has_no_choice_is_not_shaped() -> None:
    images = torch.randn(4, 3, 32, 32)
    gated = gate(create_model("resnet8"), method="dcp", density=1.0, layers=INNER).train()
    gated(images)
    assert gate_loss(gated, "shaping").item() == 0
    frozen = gate(create_model("resnet8"), method="dcp", density=0.5, layers=INNER)
    freeze(frozen, channel_places(frozen, [images]))
    frozen.train()(images)
    assert gate_loss(frozen, "shaping").item() == 0
    ranked = gate(create_model("resnet8"), density=0.5, layers=INNER).train()
    ranked(images)
    with pytest.raises(ModelError, match=r"'stage1\.0\.conv1' is a FBSConv2d: gate with"):
        gate_loss(ranked, "shaping")
