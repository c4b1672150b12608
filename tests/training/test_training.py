"""Training: what it minimises, that it resumes bit for bit, that it stops when numbers break."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from headgate.errors import DataError, RecipeError, StorageError, TrainingError
from headgate.train import diagnose, loop, state
from headgate.train.average import Average
from headgate.train.batches import Batches
from headgate.train.checkpoints import describe, load_checkpoint
from headgate.train.evaluate import accuracy
from headgate.train.gates import gate_loss, gates
from headgate.train.history import read_csv
from headgate.train.network import make, make_optimizer
from headgate.train.objective import gate_penalty, hardness_of, objective
from headgate.train.problem import load_problem
from headgate.train.recipe import Recipe, load_recipe, recipe_from
from tests.killed_training import train_until_killed

TINY = {
    "dataset": "synthetic",
    "epochs": 2,
    "batch_size": 64,
    "limit_train": 320,
    "limit_test": 64,
    "warmup_epochs": 0.5,
    "checkpoint_batches": 2,
    "ema_decay": 0.9,
    "clip_norm": 5.0,
}
GATED = TINY | {
    "gate": "fbs",
    "gate_layers": ["block-inner"],
    "density": 0.5,
    "density_schedule": [[0, 1.0], [1, 0.5]],
}


def weights(folder: Path) -> bytes:
    return (folder / loop.RESULT_NAME).read_bytes()


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on the whole synthetic data set."""
    folder = tmp_path_factory.mktemp("dense")
    loop.train(recipe_from(TINY | {"limit_train": 0, "limit_test": 0, "epochs": 5}), folder)
    return folder


# Whole runs


def test_a_run_learns_and_its_checkpoint_is_as_good_as_it_says(dense: Path) -> None:
    described = describe(dense)
    module, stated, preprocess = load_checkpoint(dense)
    problem = load_problem(Recipe(dataset="synthetic"), torch.device("cpu"))
    measured = accuracy(module, problem.test_images, problem.test_labels, preprocess)
    assert measured == stated == described["test_accuracy"] > 0.6
    assert not module.training
    rows = read_csv(dense / "log.csv")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[-1]["train_loss"] < rows[0]["train_loss"] / 2
    assert rows[-1]["test_accuracy"] == pytest.approx(stated, abs=1e-5)
    assert load_recipe(dense / "recipe.toml").epochs == 5
    assert described["macs"]["dense"] == described["macs"]["executed"] == 12_501_632


def test_gates_start_from_a_dense_checkpoint_and_follow_the_density(
    dense: Path, tmp_path: Path
) -> None:
    table = GATED | {"start_from": str(dense), "teacher": str(dense)}
    loop.train(recipe_from(table), tmp_path)
    rows = read_csv(tmp_path / "log.csv")
    assert [row["density"] for row in rows] == [1.0, 0.5]
    assert rows[0]["kept_channels"] > 0.95
    assert rows[1]["kept_channels"] == pytest.approx(0.5, abs=0.02)
    described = describe(tmp_path)
    assert described["gate"]["density"] == 0.5
    # Stem, shortcuts and the last layer in full, the gated halves of all six others.
    assert described["macs"]["executed"] == pytest.approx(
        12_501_632 - 11_796_480 / 2 + described["macs"]["gate"], rel=0.01
    )
    with pytest.raises(RecipeError, match="ask for the same"):
        make(recipe_from(TINY | {"start_from": str(tmp_path)}))


def test_a_run_killed_in_mid_epoch_resumes_bit_for_bit(tmp_path: Path) -> None:
    recipe = recipe_from(GATED)
    loop.train(recipe, tmp_path / "whole")

    folder = tmp_path / "killed"
    # 5 batches an epoch, saved every 2: the ninth step was the fourth of the second epoch.
    assert train_until_killed(recipe, folder, 9) == (1, 2)

    loop.train(recipe, folder, resume=True)
    assert weights(folder) == weights(tmp_path / "whole")
    whole, resumed = read_csv(tmp_path / "whole" / "log.csv"), read_csv(folder / "log.csv")
    for row in [*whole, *resumed]:
        del row["seconds"]
    assert whole == resumed


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path: Path) -> None:
    table = TINY | {"epochs": 1, "limit_train": 128, "deterministic": True}
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        loop.train(recipe_from(table | {"seed": seed}), tmp_path / name)
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")
    assert not torch.are_deterministic_algorithms_enabled()


def test_resuming_with_another_recipe_is_refused(dense: Path) -> None:
    with pytest.raises(RecipeError, match=r"was started with another .*learning_rate"):
        loop.train(recipe_from(TINY | {"learning_rate": 0.3, "epochs": 5}), dense, resume=True)


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    table = TINY | {"epochs": 1, "limit_train": 64}
    loop.train(recipe_from(table), tmp_path)
    tensors = next(tmp_path.glob("state-*.safetensors"))
    tensors.write_bytes(tensors.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(StorageError, match="does not match its checksum"):
        loop.train(recipe_from(table), tmp_path, resume=True)


def test_data_that_is_absent_is_an_error_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="headgate data cifar10"):
        loop.train(Recipe(data_folder=str(tmp_path)), tmp_path / "run")


def test_a_batch_larger_than_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="more than the 32 images"):
        loop.train(recipe_from(TINY | {"limit_train": 32}), tmp_path)


# Numbers that break


def test_a_run_that_diverges_names_a_layer_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    table = TINY | {"learning_rate": 1e18, "clip_norm": 0.0, "warmup_epochs": 2.0}
    with pytest.raises(TrainingError, match=r"(layer|parameter|gradient).* is not finite in epoch"):
        loop.train(recipe_from(table), tmp_path)
    found = state.load_state(tmp_path)
    if found is not None:
        assert all(tensor.isfinite().all() for tensor in found[1].values())


class Overflow(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 1e30 * 1e30


def test_the_first_layer_whose_output_breaks_is_named() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), Overflow(), nn.Linear(4, 2))
    assert diagnose.first_bad_output(net, torch.ones(2, 4)) == "2"
    assert "output of layer 2 is not finite in here" in str(
        diagnose.stop(net, torch.ones(2, 4), "here", "kept")
    )


def test_a_parameter_that_breaks_is_named_before_the_outputs_it_spoils() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    with torch.no_grad():
        net[1].weight[2] = float("nan")
    assert diagnose.first_bad_parameter(net) == "1.weight"
    assert "parameter 1.weight" in str(diagnose.stop(net, torch.ones(2, 4), "here", "kept"))


def test_a_gradient_that_breaks_is_named() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].bias.grad = torch.tensor([1.0, float("inf")])
    assert "gradient of 1.bias" in str(diagnose.stop(net, torch.ones(1, 2), "here", "kept"))


# Parts


def test_objective_is_cross_entropy_plus_softened_divergence_plus_penalty() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 3.0]])
    teacher = torch.tensor([[2.0, 1.0, 0.0], [1.0, 0.0, 2.0]])
    labels = torch.tensor([1, 2])
    recipe = Recipe(teacher="t", teacher_weight=0.25, teacher_temperature=2.0)
    p, q = (teacher / 2).softmax(1), (logits / 2).softmax(1)
    divergence = (p * (p / q).log()).sum(1).mean()
    expected = 0.75 * functional.cross_entropy(logits, labels) + 0.25 * 4 * divergence + 1.5
    measured = objective(recipe, logits, labels, teacher, torch.tensor(1.5))
    torch.testing.assert_close(measured, expected)


def test_how_hard_an_image_is_for_a_network() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 2.0]], requires_grad=True)
    found = hardness_of(logits, torch.tensor([0, 0, 0]))
    assert found.tolist() == pytest.approx([0.126928, 0.693147, 2.126928], abs=1e-6)
    assert not found.requires_grad
    broken = torch.tensor([[float("nan"), 0.0], [float("inf"), 0.0]])
    assert hardness_of(broken, torch.tensor([0, 1])).isfinite().all()


def test_a_gate_that_is_not_finite_shows_even_without_weight() -> None:
    recipe = recipe_from(GATED | {"gate_penalty": 0.0})
    module = make(recipe).eval()
    module(torch.randn(1, 3, 32, 32))
    found = gate_penalty(recipe, module, 0.0)
    assert found is not None and found.item() == 0.0
    next(iter(gates(module).values())).last_gate[0, 0] = float("nan")
    found = gate_penalty(recipe, module, 0.0)
    assert found is not None and found.isnan()


def test_the_weight_of_the_regulariser_falls_in_a_straight_line() -> None:
    module = make(recipe_from(GATED)).eval()
    module(torch.randn(1, 3, 32, 32))
    loss = gate_loss(module, "moe").item()
    fading = recipe_from(
        GATED | {"gate_loss": "moe", "gate_penalty": 0.8, "gate_penalty_epochs": 4}
    )
    found = [gate_penalty(fading, module, epoch) for epoch in (0, 1, 3.5, 4, 5)]
    assert [one.item() for one in found] == pytest.approx(  # type: ignore[union-attr]
        [0.8 * loss, 0.6 * loss, 0.1 * loss, 0.0, 0.0]
    )
    constant = gate_penalty(recipe_from(GATED | {"gate_penalty": 0.8}), module, 5)
    assert constant is not None
    assert constant.item() == pytest.approx(0.8 * gate_loss(module).item())


def test_average_follows_its_formula() -> None:
    net = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        net.weight.fill_(0.0)
    average = Average(net, decay=0.9)
    with torch.no_grad():
        net.weight.fill_(1.0)
    average.update(net, updates=0)  # decay min(0.9, 1 / 10)
    assert float(average.tensors["weight"]) == pytest.approx(0.9)
    average.update(net, updates=1000)  # decay 0.9
    assert float(average.tensors["weight"]) == pytest.approx(0.91)


def test_weight_decay_spares_norms_and_biases_unless_asked() -> None:
    recipe = Recipe(weight_decay=0.1)
    decayed, plain = make_optimizer(recipe, make(recipe)).param_groups
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert decayed["weight_decay"] == 0.1
    assert plain["weight_decay"] == 0.0
    assert all(parameter.ndim == 1 for parameter in plain["params"])
    everything = Recipe(weight_decay=0.1, decay_all=True)
    assert make_optimizer(everything, make(everything)).param_groups[1]["params"] == []


def test_processes_share_a_batch_and_any_batch_can_be_made_alone() -> None:
    recipe = recipe_from(TINY)
    problem = load_problem(recipe, torch.device("cpu"))
    whole = list(Batches(recipe, problem, 0, 1).epoch(1))
    halves = [list(Batches(recipe, problem, rank, 2).epoch(1)) for rank in range(2)]
    for (_, labels), (_, left), (_, right) in zip(whole, *halves, strict=True):
        assert torch.equal(torch.cat([left, right]), labels)
    alone = next(Batches(recipe, problem, 0, 1).epoch(1, start=3))
    assert torch.equal(alone[0], whole[3][0])
    with pytest.raises(RecipeError, match="cannot be split over 3 processes"):
        Batches(recipe, problem, 0, 3)
