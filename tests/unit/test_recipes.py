"""Recipes: what is refused, what is suggested, and the schedules they stand for."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from headgate.errors import MissingFile, RecipeError
from headgate.train.methods import find_procedures
from headgate.train.network import make
from headgate.train.recipe import (
    Recipe,
    load_recipe,
    option_table,
    option_types,
    recipe_from,
    recipe_names,
    to_toml,
)
from headgate.train.schedule import density, learning_rate

README = Path(__file__).parents[2] / "train" / "README.md"


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_are_valid_and_named_after_their_file(name: str) -> None:
    assert load_recipe(name).name == name


CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000, "places365": 365}


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_build_their_network_and_its_procedure(name: str) -> None:
    recipe = load_recipe(name)
    fresh = replace(recipe, start_from="", teacher="")
    with torch.device("meta"):  # Shapes without numbers, so that VGG-16 takes no time.
        module = make(fresh, CLASSES[recipe.dataset])
    last = [layer for layer in module.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))][-1]
    assert len(last.weight) == CLASSES[recipe.dataset]
    found = find_procedures(recipe)
    assert bool(found) == bool(recipe.gate or recipe.prune)


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_start_from_one_that_fits(name: str) -> None:
    recipe = load_recipe(name)
    for other in filter(None, (recipe.start_from, recipe.teacher)):
        before = load_recipe(other)
        assert (before.model, before.dataset) == (recipe.model, recipe.dataset)
        assert before.model_options == recipe.model_options


def test_a_written_recipe_reads_back_the_same(tmp_path: Path) -> None:
    recipe = load_recipe("resnet8-fbs-0.5", ["gate_options.variant=paper", "data_folder=a b"])
    (tmp_path / "r.toml").write_text(to_toml(recipe))
    assert load_recipe(tmp_path / "r.toml") == recipe


def test_unknown_keys_get_a_suggestion() -> None:
    with pytest.raises(RecipeError, match=r"unknown key 'epoch'.*'epochs'"):
        recipe_from({"epoch": 3})
    with pytest.raises(RecipeError, match=r"unknown key 'densty'.*'density'"):
        load_recipe("resnet8", ["densty=0.5"])


def test_missing_file_suggests_a_shipped_recipe() -> None:
    with pytest.raises(MissingFile, match="'resnet8'"):
        load_recipe("resnet9")


def test_text_that_is_not_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("epochs = = 3")
    with pytest.raises(RecipeError, match=r"r\.toml is not valid TOML"):
        load_recipe(tmp_path / "r.toml")


def test_overrides_take_the_type_of_their_option() -> None:
    recipe = load_recipe(
        "resnet8",
        ["epochs=2", "gate=fbs", "density=0.5", "flip=false", "gate_layers=['*.conv1']", "name=7"],
    )
    assert (recipe.epochs, recipe.gate, recipe.density, recipe.flip) == (2, "fbs", 0.5, False)
    assert recipe.gate_layers == ["*.conv1"]
    assert recipe.name == "7"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs", "has no '='"),
        ("epochs=many", "epochs is 'many', not a whole number"),
        ("epochs=1.5", "epochs is 1.5, not a whole number"),
        ("flip=1", "flip is 1, not true or false"),
        ("learning_rate=true", "learning_rate is True, not a number"),
        ("epochs=0", "epochs is 0, not a whole number of at least 1"),
        ("density=0", "density is 0, not above 0 and at most 1"),
        ("weight_decay=-1", "must be at least 0"),
        ("precision=fp61", "precision is 'fp61', which is unknown. Did you mean 'fp16'"),
        ("momentum=0", "above 0 with nesterov"),
        ("gate_layers=['*']", "need a gate"),
        ("epochs.x=1", "is no table"),
    ],
)
def test_bad_overrides_are_refused(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("resnet8", [override])


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([[0, 1.0], [0, 0.5]], "rising order"),
        ([[0, 1.0], [3, 0.7]], "the last density"),
        ([[0, 1.0, 2.0]], r"density_schedule\[0\] is \[0, 1.0, 2.0\], not a pair of first epoch"),
        ([[0, 1.5], [1, 0.5]], r"\[0\] is \[0, 1.5\], not a pair .* density above 0 and at most"),
        ([0, 1.0], r"density_schedule\[0\] is 0, not a list"),
    ],
)
def test_bad_density_schedules_are_refused(stages: list[object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe_from({"gate": "fbs", "density": 0.5, "density_schedule": stages})


def test_density_is_lowered_in_stages() -> None:
    recipe = Recipe(gate="fbs", density=0.5, density_schedule=[[1, 0.9], [3, 0.7], [4, 0.5]])
    assert [density(recipe, epoch) for epoch in range(6)] == [1.0, 0.9, 0.9, 0.7, 0.5, 0.5]
    assert density(Recipe(gate="fbs", density=0.5), 0) == 0.5


def test_learning_rate_warms_up_then_follows_half_a_cosine() -> None:
    recipe = Recipe(epochs=12, warmup_epochs=2.0, learning_rate=0.4, final_learning_rate=0.1)
    assert learning_rate(recipe, 1.0) == pytest.approx(0.2)
    assert learning_rate(recipe, 2.0) == pytest.approx(0.4)
    assert learning_rate(recipe, 7.0) == pytest.approx(0.25)
    assert learning_rate(recipe, 4.5) == pytest.approx(0.1 + 0.15 * (1 + math.cos(math.pi / 4)))
    assert learning_rate(recipe, 12.0) == pytest.approx(0.1)


@given(epoch=st.floats(0, 30), warmup=st.floats(0, 20), epochs=st.integers(1, 20))
def test_learning_rate_stays_in_its_range(epoch: float, warmup: float, epochs: int) -> None:
    recipe = Recipe(epochs=epochs, warmup_epochs=warmup, learning_rate=0.3)
    assert 0.0 <= learning_rate(recipe, epoch) <= 0.3


def test_readme_has_the_option_table() -> None:
    assert len(option_types()) == option_table().count("\n") - 1
    assert option_table() in README.read_text(encoding="utf-8")


def test_options_of_a_procedure_may_be_lists_in_lists() -> None:
    staged = {"target": 0.5, "schedule": [[0, 0.0], [2, 0.5]]}
    (made,) = find_procedures(recipe_from({"gate": "cgnet", "gate_training": staged}))
    assert made.stages == staged["schedule"]  # type: ignore[attr-defined]
    with pytest.raises(RecipeError, match=r"gate_training\.schedule is 3, not a list"):
        find_procedures(recipe_from({"gate": "cgnet", "gate_training": {"schedule": 3}}))


def test_a_folder_of_a_recipes_name_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "resnet8").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_recipe("resnet8").name == "resnet8"
