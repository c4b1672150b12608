"""Masks with gradients: what a closed channel learns, and noise on gates with a threshold."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from headgate.errors import ModelError, RecipeError
from headgate.train.gates import METHODS, DCPConv2d, gate, gates
from headgate.train.gates.relaxed import GLIMMER, masked_through, open_through
from headgate.train.methods import find_procedures
from headgate.train.problem import load_problem
from headgate.train.procedure import Moment
from headgate.train.recipe import recipe_from
from tests.gated_networks import INNER, dcp_layers, pair, pretrained


def layer_of(density: float, straight_through: bool = True) -> DCPConv2d:
    torch.manual_seed(1)
    conv, norm = pair()
    return DCPConv2d(
        conv, norm, "layer", density, predictor_std=2.0, straight_through=straight_through
    )


def test_a_margin_has_the_gradient_of_its_sigmoid_and_a_channel_that_of_its_mask() -> None:
    torch.manual_seed(0)
    whole = torch.randn(3, 4, 5, 5, dtype=torch.float64, requires_grad=True)
    margin = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    direction = torch.randn_like(whole)
    shown = masked_through(whole, margin)
    opened = (margin > 0)[:, :, None, None].expand_as(whole)
    assert torch.equal(shown[opened], whole[opened])
    assert shown[~opened].abs().max() == GLIMMER
    assert torch.equal(shown[~opened].sign(), whole[~opened].sign())
    found = torch.autograd.grad((shown * direction).sum(), [whole, margin])
    assert torch.equal(found[0], torch.where(opened, direction, 0.0))
    soft = (whole.detach() * torch.sigmoid(margin)[:, :, None, None] * direction).sum()
    assert torch.allclose(found[1], torch.autograd.grad(soft, margin)[0], atol=1e-12)

    through = open_through(whole, margin > 0)
    assert torch.equal(through, shown)
    assert torch.equal(torch.autograd.grad((through * direction).sum(), whole)[0], direction)


def test_closed_channels_learn_what_opening_them_is_worth() -> None:
    x = torch.randn(6, 5, 8, 8, dtype=torch.float64)
    plain, through = layer_of(0.5, straight_through=False), layer_of(0.5)
    shown = {}
    for layer in (plain, through):
        layer.train()
        y = layer(x)
        assert layer.last_gate is not None
        closed = (layer.last_gate == 0).all(0)
        assert closed.any()
        (bias,) = torch.autograd.grad(y.relu().sum(), [layer.predictor.bias])
        assert (bias[closed] != 0).all() == layer.straight_through
        shown[layer.straight_through] = y
    assert torch.allclose(shown[True], shown[False], atol=2 * GLIMMER)
    for layer in (plain, through):
        layer.eval()
    assert torch.equal(plain(x), through(x))
    assert (through(x)[through.last_gate == 0] == 0).all()
    assert copy.deepcopy(through.train()) is not through


def test_with_every_channel_open_nothing_is_relaxed() -> None:
    x = torch.randn(6, 5, 8, 8, dtype=torch.float64)
    plain, through = layer_of(1.0, straight_through=False), layer_of(1.0)
    through.noise = 1.0
    assert torch.equal(plain.train()(x), through.train()(x))


def test_noise_opens_losers_and_keeps_the_share_of_open_channels() -> None:
    torch.manual_seed(0)
    layer = layer_of(3 / 7).train()
    logits = torch.linspace(-2.0, 2.0, 7).expand(4000, 7)
    weights = torch.ones_like(logits)
    for _ in range(40):  # until T has come to rest
        strict = layer.keep(logits, weights).mean(0)
    assert strict.tolist() == [0.0] * 4 + [1.0] * 3
    layer.noise = 1.0
    drawn = layer.keep(logits, weights).mean(0)
    assert drawn.mean().item() == pytest.approx(3 / 7, abs=1e-3)
    assert (drawn.diff() > 0).all() and drawn[0] > 0.02 and drawn[-1] < 0.98
    # T of an evaluation knows nothing of the noise.
    layer.eval()
    assert torch.equal(layer.keep(logits, weights).mean(0), strict)


def test_noise_fades_while_layers_take_their_turns() -> None:
    table = {
        "dataset": "synthetic",
        "gate": "dcp",
        "gate_layers": ["block-inner"],
        "density": 0.5,
        "density_schedule": [[0, 1.0], [2, 0.5]],
        "gate_training": {"layer_epochs": 0.0, "noise": 0.8, "noise_epochs": 4},
        "epochs": 6,
    }
    recipe = recipe_from(table)
    module = gate(pretrained(), method="dcp", density=1.0, layers=INNER)
    (procedure,) = find_procedures(recipe)
    problem = load_problem(recipe, torch.device("cpu"))
    seen = []
    for epoch in range(6):
        procedure.configure(Moment(module, recipe, problem, epoch))
        seen.append({layer.noise for layer in dcp_layers(module)})
    assert [len(noises) for noises in seen] == [1] * 6
    assert [noises.pop() for noises in seen] == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0, 0.0])
    assert len(gates(module)) == len(dcp_layers(module))
    with pytest.raises(RecipeError, match="noise"):
        find_procedures(recipe_from(table | {"gate_training": {"noise": -1.0}}))
    with pytest.raises(RecipeError, match=r"noise = 0\.5 has no epochs"):
        find_procedures(recipe_from(table | {"gate_training": {"noise": 0.5}}))


@pytest.mark.parametrize("method", ["dcp", "fbs"])
def test_a_mask_that_is_frozen_between_batches_is_the_one_shown(method: str) -> None:
    torch.manual_seed(1)
    layer = METHODS[method](*pair(), "layer", 0.5, predictor_std=2.0, straight_through=True)
    layer.train()
    layer(torch.randn(6, 5, 8, 8, dtype=torch.float64))
    layer.freeze(torch.arange(7))
    y = layer(torch.randn(4, 5, 8, 8, dtype=torch.float64))
    assert ((y != 0).flatten(2).any(2) == (torch.arange(7) < 4)).all()


@pytest.mark.parametrize("method", ["dcp", "fbs"])
def test_a_gate_that_a_depthwise_convolution_follows_is_refused(method: str) -> None:
    module = nn.Sequential(
        *(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)),
    )
    gate(module, method=method, layers=["0", "3"])
    with pytest.raises(ModelError, match="straight_through: '3' is depthwise"):
        gate(module, method=method, layers=["0", "3"], straight_through=True)
