"""The images and labels of a run, on its device or decoded onto it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headgate.device.pictures.preprocess import Preprocess
from headgate.errors import RecipeError
from headgate.train.data import fingerprint, folders
from headgate.train.data.augment import to_network_input
from headgate.train.data.cifar import CIFAR10, CIFAR100
from headgate.train.data.dataset import Dataset, data_folder, synthetic
from headgate.train.data.fingerprint import Fingerprint
from headgate.train.data.folders import ImageFolder, image_folder
from headgate.train.data.image_files import ImageFiles, Images, ahead
from headgate.train.data.imagenet import imagenet
from headgate.train.data.places365 import places365
from headgate.train.evaluate import batch_size, evenly_spread
from headgate.train.models import input_shape
from headgate.train.recipe import Recipe

# Images in any form that can be sliced, and their labels as an array.
Labelled = tuple[Any, Any]

_IN_MEMORY = {"cifar10": CIFAR10, "cifar100": CIFAR100}
_IN_FILES: dict[str, Callable[[Path], ImageFolder]] = {
    "imagenet": imagenet,
    "places365": places365,
    "folder": image_folder,
}


@dataclass(frozen=True)
class Problem:
    """Images and labels int64 (N,) for training and testing, and how the images are scaled.

    Images are a uint8 tensor (N, H, W, 3) or :class:`ImageFiles`: take batches of them, not all at
    once. ``fingerprint`` is None where it is of no interest.
    """

    train_images: Images
    train_labels: Tensor
    test_images: Images
    test_labels: Tensor
    classes: tuple[str, ...]
    preprocess: Preprocess
    fingerprint: Fingerprint | None = None


@dataclass(frozen=True)
class TrainingImages:
    """Batches (N, C, H, W) of ``count`` training images, evenly spread and not augmented."""

    problem: Problem
    count: int

    def __iter__(self) -> Iterator[Tensor]:
        images = self.problem.train_images
        parts = evenly_spread(self.count, len(images)).split(batch_size(images))
        for pixels in ahead(images, lambda rows: images[rows.to(images.device)], parts):
            yield to_network_input(pixels, self.problem.preprocess)


def load_problem(recipe: Recipe, device: torch.device) -> Problem:
    """The recipe's data set: small ones on ``device``, image files as they lie on disk.

    Raises:
        DataError: if the data set is absent, incomplete or altered, with what to do.
        RecipeError: images of another size than the data set has.
    """
    folder = Path(recipe.data_folder) if recipe.data_folder else None
    if recipe.dataset in _IN_FILES:
        found = _IN_FILES[recipe.dataset](folder or data_folder() / recipe.dataset)
        return _from_files(recipe, found, device)
    if recipe.dataset == "synthetic":
        return _in_memory(recipe, synthetic(), CIFAR10.classes, CIFAR10.preprocess, device)
    known = _IN_MEMORY[recipe.dataset]
    return _in_memory(recipe, known.load(folder), known.classes, known.preprocess, device)


def _in_memory(
    recipe: Recipe,
    dataset: Dataset,
    classes: tuple[str, ...],
    preprocess: Preprocess,
    device: torch.device,
) -> Problem:
    side = dataset.train_images.shape[1]
    if recipe.image_size not in (0, side):
        raise RecipeError(
            f"recipe: image_size = {recipe.image_size}, but {recipe.dataset} has images of {side} "
            "pixels: leave it out"
        )
    (train_images, train_labels), (test_images, test_labels) = _divided(
        recipe,
        (dataset.train_images, dataset.train_labels),
        (dataset.test_images, dataset.test_labels),
    )
    return Problem(
        train_images=torch.from_numpy(train_images).to(device),
        train_labels=torch.from_numpy(train_labels).long().to(device),
        test_images=torch.from_numpy(test_images).to(device),
        test_labels=torch.from_numpy(test_labels).long().to(device),
        classes=classes,
        preprocess=preprocess,
        fingerprint=fingerprint.of_arrays(dataset, classes),
    )


def _divided(recipe: Recipe, train: Labelled, test: Labelled) -> tuple[Labelled, Labelled]:
    (images, labels), count = train, len(train[1]) - recipe.hold_out
    if count < 1:
        raise RecipeError(
            f"recipe: hold_out = {recipe.hold_out} leaves none of {len(labels)} training images"
        )
    if recipe.hold_out:
        train, test = (images[:count], labels[:count]), (images[count:], labels[count:])
    used, tested = recipe.limit_train or None, recipe.limit_test or None
    return (train[0][:used], train[1][:used]), (test[0][:tested], test[1][:tested])


def _from_files(recipe: Recipe, found: ImageFolder, device: torch.device) -> Problem:
    size = recipe.image_size or input_shape(recipe.model)[1]
    train, test = _divided(
        recipe, (found.train.names, found.train.labels), (found.test.names, found.test.labels)
    )
    test_folder = found.train.folder if recipe.hold_out else found.test.folder
    return Problem(
        ImageFiles(found.train.folder, train[0], size, device),
        torch.from_numpy(train[1]).to(device),
        ImageFiles(test_folder, test[0], size, device),
        torch.from_numpy(test[1]).to(device),
        found.classes,
        folders.PREPROCESS,
        fingerprint.of_files(found),
    )
