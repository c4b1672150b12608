"""Training on image files: a small ImageNet that is decoded batch by batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from headgate.errors import DataError, RecipeError
from headgate.train import loop, state
from headgate.train.batches import Batches
from headgate.train.checkpoints import describe, load_checkpoint
from headgate.train.data import cifar, imagenet
from headgate.train.data.image_files import ImageFiles
from headgate.train.evaluate import accuracy, count_correct
from headgate.train.history import read_csv
from headgate.train.problem import Problem, load_problem
from headgate.train.recipe import Recipe, recipe_from
from tests.image_folders import WNIDS, class_folders, flat_validation

CPU = torch.device("cpu")


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A recipe for 40 + 16 JPEGs in four classes that count as ImageNet, flat in ``val/``."""
    monkeypatch.setattr(imagenet, "CLASSES", 4)
    place = class_folders(tmp_path / "imagenet")
    lines = (f"{name} {wnid}\n" for name, wnid in flat_validation(place).items())
    (place / "val.txt").write_text("".join(lines))
    return {
        "dataset": "imagenet",
        "data_folder": str(place),
        "image_size": 32,
        "crop_scale": 0.5,
        "crop_padding": 0,
        "contrast": 0.2,
        "epochs": 2,
        "batch_size": 8,
        "checkpoint_batches": 2,
        "learning_rate": 0.05,
        "warmup_epochs": 0.2,
    }


def interrupted(recipe: Recipe, folder: Path, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains, and stops before the step of this number."""
    taken: list[int] = []
    step = loop.Run._step

    def stopping(run: loop.Run, images: torch.Tensor, labels: torch.Tensor) -> None:
        taken.append(1)
        if len(taken) == steps:
            raise KeyboardInterrupt
        step(run, images, labels)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(loop.Run, "_step", stopping)
        loop.train(recipe, folder)


def test_a_small_imagenet_is_learnt_and_resumed_in_mid_epoch(
    table: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_from(table)
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    loop.train(recipe, whole)
    interrupted(recipe, resumed, 9, monkeypatch)
    found = state.load_state(resumed)
    assert found is not None and (found[0].epoch, found[0].batch) == (1, 2)
    loop.train(recipe, resumed, resume=True)
    weights = [(folder / loop.RESULT_NAME).read_bytes() for folder in (whole, resumed)]
    assert weights[0] == weights[1]

    described = describe(whole)
    assert described["classes"] == list(WNIDS)
    assert described["test_images"] == 16
    assert described["num_classes"] == 4
    rows = read_csv(whole / "log.csv")
    assert rows[1]["train_loss"] < rows[0]["train_loss"]
    module, stated, preprocess = load_checkpoint(whole)
    problem = load_problem(recipe, CPU)
    assert accuracy(module, problem.test_images, problem.test_labels, preprocess) == stated


def test_evaluation_streams_and_may_be_shared(
    table: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = load_problem(recipe_from(table), CPU)
    images, labels = problem.test_images, problem.test_labels
    assert isinstance(images, ImageFiles)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 4))
    largest = 0
    fetch = ImageFiles.read

    def watched(files: ImageFiles, rows: slice, *rest: object) -> torch.Tensor:
        nonlocal largest
        pixels = fetch(files, rows, *rest)  # type: ignore[arg-type]
        largest = max(largest, len(pixels))
        return pixels

    memory = count_correct(module, images[:], labels, problem.preprocess)
    monkeypatch.setattr(ImageFiles, "read", watched)
    monkeypatch.setattr("headgate.train.evaluate.BATCH_PIXELS", 5 * 32 * 32)
    assert count_correct(module, images, labels, problem.preprocess) == memory
    assert largest == 5
    shares = [
        count_correct(module, images, labels, problem.preprocess, rank, 3) for rank in range(3)
    ]
    assert sum(shares) == memory


def test_batches_of_files_depend_on_seed_epoch_batch_and_process_alone(
    table: dict[str, object],
) -> None:
    recipe = recipe_from(table)
    problem = load_problem(recipe, CPU)
    first = list(Batches(recipe, problem, 0, 1).epoch(1))
    again = list(Batches(recipe, problem, 0, 1).epoch(1))
    assert len(first) == 5
    for (images, labels), (images_again, labels_again) in zip(first, again, strict=True):
        assert torch.equal(images, images_again)
        assert torch.equal(labels, labels_again)
    alone = next(Batches(recipe, problem, 0, 1).epoch(1, start=3))
    assert torch.equal(alone[0], first[3][0])
    other = next(Batches(recipe, problem, 0, 1).epoch(0))
    assert not torch.equal(other[0], first[0][0])
    halves = [list(Batches(recipe, problem, rank, 2).epoch(1)) for rank in range(2)]
    for (_, labels), (_, left), (_, right) in zip(first, *halves, strict=True):
        assert torch.equal(torch.cat([left, right]), labels)


def test_training_looks_at_windows_and_testing_at_the_middle(table: dict[str, object]) -> None:
    plain = recipe_from(table | {"crop_scale": 0.0, "contrast": 0.0, "flip": False})
    problem = load_problem(plain, CPU)
    batches = Batches(plain, problem, 0, 1)
    mean, std = (torch.tensor(v) for v in (problem.preprocess.mean, problem.preprocess.std))

    def pixels(images: torch.Tensor) -> torch.Tensor:
        return (images.permute(0, 2, 3, 1) * std + mean) * 255

    wholes = problem.train_images[:].float()

    def is_some_middle(image: torch.Tensor) -> bool:
        return bool(((wholes - image).abs().amax(dim=(1, 2, 3)) < 0.01).any())

    images, _ = next(batches.epoch(0))
    assert all(is_some_middle(image) for image in pixels(images))
    cropped, _ = next(Batches(recipe_from(table | {"contrast": 0.0}), problem, 0, 1).epoch(0))
    assert not any(is_some_middle(image) for image in pixels(cropped))


def test_a_damaged_image_stops_the_run_with_its_name(
    table: dict[str, object], tmp_path: Path
) -> None:
    recipe = recipe_from(table)
    problem = load_problem(recipe, CPU)
    assert isinstance(problem.train_images, ImageFiles)
    path = problem.train_images.folder / problem.train_images.names[7]
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=f"image {path} cannot be read"):
        loop.train(recipe, tmp_path / "run")


def test_limits_take_a_fair_part_and_the_size_is_the_networks(table: dict[str, object]) -> None:
    recipe = recipe_from(
        table | {"limit_train": 24, "limit_test": 6, "image_size": 0, "model": "resnet18"}
    )
    problem: Problem = load_problem(recipe, CPU)
    assert problem.train_images.shape == (24, 224, 224, 3)
    assert problem.test_images.shape == (6, 224, 224, 3)
    assert set(problem.train_labels.tolist()) == {0, 1, 2, 3}


def test_images_held_out_are_tested_on_and_not_learnt_from(table: dict[str, object]) -> None:
    whole = load_problem(recipe_from(table), CPU)
    parts = load_problem(recipe_from(table | {"hold_out": 8}), CPU)
    assert torch.equal(parts.train_images[:], whole.train_images[:-8])
    assert torch.equal(parts.test_images[:], whole.train_images[-8:])
    assert torch.equal(parts.test_labels, whole.train_labels[-8:])

    recipe = Recipe(dataset="synthetic")
    images, labels = (p := load_problem(recipe, CPU)).train_images, p.train_labels
    parts = load_problem(Recipe(dataset="synthetic", hold_out=100, limit_test=50), CPU)
    assert torch.equal(parts.train_labels, labels[:-100])
    assert torch.equal(parts.test_images[:], images[-100:-50])
    count = len(labels)
    with pytest.raises(RecipeError, match=f"hold_out = {count} leaves none of {count} training"):
        load_problem(Recipe(dataset="synthetic", hold_out=count), CPU)


def test_an_image_size_that_a_data_set_has_not_is_refused() -> None:
    load_problem(Recipe(dataset="synthetic", image_size=32), CPU)
    with pytest.raises(RecipeError, match="image_size = 64, but synthetic has images of 32"):
        load_problem(Recipe(dataset="synthetic", image_size=64), CPU)


def test_random_resized_crops_of_images_in_memory() -> None:
    recipe = Recipe(dataset="synthetic", batch_size=16, crop_padding=0, crop_scale=0.3)
    problem = load_problem(recipe, CPU)
    first, _ = next(Batches(recipe, problem, 0, 1).epoch(0))
    again, _ = next(Batches(recipe, problem, 0, 1).epoch(0))
    whole, _ = next(
        Batches(Recipe(dataset="synthetic", batch_size=16, crop_padding=0), problem, 0, 1).epoch(0)
    )
    assert torch.equal(first, again)
    assert first.shape == whole.shape == (16, 3, 32, 32)
    assert not torch.equal(first, whole)


@pytest.mark.parametrize("key", ["start_from", "teacher"])
def test_a_network_for_other_classes_is_refused(
    table: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    # Scaled alike, so that the number of classes is what does not fit.
    monkeypatch.setattr("headgate.train.data.folders.PREPROCESS", cifar.PREPROCESS)
    with pytest.raises(RecipeError, match=f"{key} = 'resnet8' .*classes"):
        loop.train(recipe_from(table | {key: "resnet8"}), tmp_path / "run")


def test_a_run_that_is_older_than_an_option_is_resumed(tmp_path: Path) -> None:
    table = {"dataset": "synthetic", "epochs": 1, "batch_size": 64, "limit_train": 64}
    loop.train(recipe_from(table), tmp_path)
    path = tmp_path / state.JSON_NAME
    described = json.loads(path.read_text())
    del described["recipe"]["crop_scale"]
    path.write_text(json.dumps(described))
    loop.train(recipe_from(table), tmp_path, resume=True)
    with pytest.raises(RecipeError, match="another crop_scale"):
        loop.train(recipe_from(table | {"crop_scale": 0.5}), tmp_path, resume=True)
