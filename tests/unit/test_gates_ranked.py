"""FBS's options for choices that follow the image, and how choices train."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from headgate.errors import RecipeError, UsageError
from headgate.train.gates import FBSConv2d, gate, gate_statistics, gates, keep_top_k
from headgate.train.gates.relaxed import GLIMMER
from headgate.train.methods import find_procedures
from headgate.train.problem import load_problem
from headgate.train.procedure import Moment
from headgate.train.recipe import recipe_from
from tests.gated_networks import INNER, pair, pretrained


def layer_of(density: float, **options: float | bool) -> FBSConv2d:
    torch.manual_seed(1)
    conv, norm = pair()
    return FBSConv2d(conv, norm, "layer", density, predictor_std=2.0, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("relative", [0.5, 1.0])
def test_at_density_one_a_relative_gate_is_the_pretrained_pair(relative: float) -> None:
    torch.manual_seed(0)
    module, images = pretrained(), torch.randn(8, 3, 32, 32)
    gated = gate(module, density=1.0, layers=INNER, predictor_std=0.0, relative=relative)
    assert torch.allclose(gated(images), module(images), atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("relative", [0.0, 0.5, 1.0])
def test_the_ranking_is_in_units_of_the_level(training: bool, relative: float) -> None:
    layer = layer_of(0.5, relative=relative, standardize=True).train(training)
    standard = layer.predictor.standard
    standard.running_mean.normal_()
    standard.running_var.uniform_(0.5, 2.0)
    x = torch.randn(6, 5, 8, 8, dtype=torch.float64)
    means = x.mean((2, 3))
    if training:
        means = (means - means.mean(0)) / (means.var(0, unbiased=False) + 1e-5).sqrt()
    else:
        means = (means - standard.running_mean) / (standard.running_var + 1e-5).sqrt()
    saliency = torch.relu(means @ layer.predictor.weight.T + layer.predictor.bias)
    wanted = keep_top_k(saliency, 4) * (1.0 if layer.scale is None else layer.scale)
    layer(x)
    assert layer.last_gate is not None
    assert torch.allclose(layer.last_gate, wanted, atol=1e-12)


def test_a_relative_gate_starts_with_masks_that_follow_the_image() -> None:
    torch.manual_seed(0)
    module, images = pretrained(), torch.randn(64, 3, 32, 32)
    shares = {}
    for relative in (0.0, 1.0):
        gated = gate(module, density=0.5, layers=INNER, relative=relative, standardize=True)
        gated.train()(images)
        found = [s.dynamics() for s in gate_statistics(gated).values()]
        shares[relative] = sum(f.dynamic for f in found) / sum(f.channels for f in found)
    assert shares[1.0] > 0.95 > 0.5 > shares[0.0]


def gradient(layer: FBSConv2d, saliency: Tensor) -> Tensor:
    saliency.requires_grad_()
    direction = torch.arange(1.0, saliency.numel() + 1).reshape(saliency.shape)
    return torch.autograd.grad((layer.select(saliency) * direction).sum(), saliency)[0]


def test_straight_through_teaches_the_closed_channels_too() -> None:
    saliency = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]])
    plain, through = layer_of(0.4), layer_of(0.4, straight_through=True)
    assert torch.equal(plain.select(saliency), through.select(saliency))
    assert gradient(plain, saliency.clone()).tolist() == [[0, 0, 0, 0, 5, 6, 7]]
    assert gradient(through, saliency.clone()).tolist() == [[1, 2, 3, 4, 5, 6, 7]]
    through.eval()
    assert torch.equal(through.select(saliency), plain.select(saliency))


def test_gradients_pass_the_relu_behind_as_if_every_channel_were_open() -> None:
    layer = layer_of(0.5, straight_through=True)
    x = torch.randn(4, 5, 6, 6, dtype=torch.float64)
    direction = torch.randn(4, 7, 4, 4, dtype=torch.float64)
    y = layer(x)
    assert layer.last_gate is not None
    closed = layer.last_gate == 0
    assert closed.any() and y[closed].abs().max() <= GLIMMER
    parameters = list(layer.parameters())
    found = torch.autograd.grad((y.relu() * direction).sum(), parameters)
    layer.set_density(1.0)
    wanted = torch.autograd.grad((layer(x).relu() * direction).sum(), parameters)
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-10)

    plain = layer_of(0.5)
    y = plain(x)
    (bias,) = torch.autograd.grad((y.relu() * direction).sum(), [plain.predictor.bias])
    always = (plain.last_gate == 0).all(0)
    assert always.any() and (bias[always] == 0).all()
    assert copy.deepcopy(layer) is not layer
    layer.set_density(0.5)
    layer.eval()
    assert (layer(x)[layer.last_gate == 0] == 0).all()


def test_noise_draws_channels_by_their_saliency_and_is_of_training_alone() -> None:
    torch.manual_seed(0)
    layer = layer_of(1 / 7)
    saliency = torch.tensor([[4.0, 2.0, 1.0, 1.0, 0.0, 0.0, 0.0]]).expand(20_000, 7)
    layer.noise = 1.0
    opened = (layer.select(saliency) != 0).double().mean(0)
    # Gumbel numbers of scale 1 draw by share.
    assert opened[:4].tolist() == pytest.approx([0.5, 0.25, 0.125, 0.125], abs=0.015)
    assert opened[4:].sum() == 0
    layer.eval()
    assert (layer.select(saliency) != 0).double().mean(0).tolist() == [1, 0, 0, 0, 0, 0, 0]


def test_noise_fades_in_a_straight_line_beside_the_densities() -> None:
    table = {
        "dataset": "synthetic",
        "gate": "fbs",
        "gate_layers": ["block-inner"],
        "density": 0.5,
        "density_schedule": [[0, 1.0], [2, 0.5]],
        "gate_training": {"noise": 0.8, "noise_epochs": 4},
    }
    recipe = recipe_from(table)
    module = gate(pretrained(), density=1.0, layers=INNER)
    (procedure,) = find_procedures(recipe)
    seen = []
    for epoch in range(6):
        procedure.configure(
            Moment(module, recipe, load_problem(recipe, torch.device("cpu")), epoch)
        )
        layer = next(iter(gates(module).values()))
        assert isinstance(layer, FBSConv2d)
        seen.append((layer.density, layer.noise))
    assert [density for density, _ in seen] == [1.0, 1.0, 0.5, 0.5, 0.5, 0.5]
    assert [noise for _, noise in seen] == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0, 0.0])


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError, match=r"relative = 1\.5"):
        layer_of(0.5, relative=1.5)
    with pytest.raises(RecipeError, match="noise"):
        find_procedures(recipe_from({"gate": "fbs", "gate_training": {"noise": -1.0}}))
