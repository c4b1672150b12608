"""Data sets of image files: which files there are, and to which class each belongs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headgate.device.pictures.listing import images_beside_folders, images_in, subfolders
from headgate.device.pictures.preprocess import Preprocess
from headgate.errors import DataError

# Channel statistics of ImageNet's training images, which everybody uses for photographs.
PREPROCESS = Preprocess(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
ORDER_SEED = 0


@dataclass(frozen=True)
class Split:
    """N files: their names under ``folder``, and their classes, int64 (N,)."""

    folder: Path
    names: list[str]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class ImageFolder:
    """Training and test images, and the names of their classes in the labels' order."""

    train: Split
    test: Split
    classes: tuple[str, ...]


def image_folder(place: Path) -> ImageFolder:
    """Any images sorted into ``train/CLASS/`` and ``val/CLASS/``, or folders within these.

    Raises:
        DataError: a folder that is missing or has no images, or a class that only one side has.
    """
    expect_folder(place)
    train, test = by_class(place / "train"), by_class(place / "val")
    for name in sorted(set(train) ^ set(test)):
        lacking, other = ("val", "train") if name in train else ("train", "val")
        raise DataError(f"{place / lacking} has no folder {name!r}, but {place / other} has one")
    classes = sorted(train)
    return ImageFolder(
        split(place / "train", labelled(train, classes)),
        split(place / "val", labelled(test, classes)),
        tuple(classes),
    )


def expect_folder(place: Path) -> None:
    """Raises a DataError if the data set is not there at all."""
    if not place.is_dir():
        raise DataError(
            f"there is no folder {place}: put or link the images there, or say where they are with "
            "--set data_folder=FOLDER"
        )


def expect_classes(title: str, wanted: int, classes: Sequence[str], origin: Path) -> None:
    """Raises a DataError if there are not as many classes as the data set has."""
    if len(classes) != wanted:
        raise DataError(
            f"{origin} has {len(classes)} classes, {title} has {wanted}: complete it, or train on "
            'a part of it with dataset = "folder"'
        )


def by_class(folder: Path) -> dict[str, list[str]]:
    """The sorted names of the images in each subfolder, and in the folders in that."""
    classes = subfolders(folder)
    if not classes:
        raise DataError(f"{folder} has no folders, one for each class")
    if loose := images_beside_folders(folder):
        raise DataError(
            f"{folder} has images in no class's folder, {loose[0]} for one: put them into one, or "
            "remove them"
        )
    return {name: images_in(folder / name) for name in classes}


def labelled(images: Mapping[str, list[str]], classes: Sequence[str]) -> list[tuple[str, int]]:
    """Path under the folder, and class, of each image that :func:`by_class` found."""
    numbers = {name: index for index, name in enumerate(classes)}
    return [(f"{c}/{name}", numbers[c]) for c, names in images.items() for name in names]


def split(folder: Path, files: Sequence[tuple[str, int]]) -> Split:
    """The files and their classes, shuffled so that any first part of them is a fair sample."""
    order = np.random.default_rng(ORDER_SEED).permutation(len(files))
    names = [files[index][0] for index in order]
    labels = np.array([files[index][1] for index in order], dtype=np.int64)
    return Split(folder, names, labels)
