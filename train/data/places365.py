"""Places365-Standard (Zhou et al., 2017) in both layouts that its publishers offer."""

from __future__ import annotations

from pathlib import Path

from headgate.errors import DataError
from headgate.train.data.folders import ImageFolder, expect_classes, image_folder, split
from headgate.train.data.lists import numbered

CLASSES = 365
_TRAIN_LIST, _VAL_LIST = "places365_train_standard.txt", "places365_val.txt"
_CATEGORIES = "categories_places365.txt"
_TRAIN_FOLDERS = ("data_256", "data_256_standard", "data_large", "data_large_standard")
_VAL_FOLDERS = ("val_256", "val_large")


def places365(place: Path) -> ImageFolder:
    """Places365-Standard: ``train/CLASS/`` and ``val/CLASS/``, or lists and folders of images.

    Raises:
        DataError: what is missing or contradicts itself, or a number of classes other than 365.
    """
    if not (place / _TRAIN_LIST).exists():
        found = image_folder(place)
        expect_classes("Places365", CLASSES, found.classes, place / "train")
        return found
    categories = sorted(numbered(place / _CATEGORIES), key=lambda pair: pair[1])
    classes = [name for name, _ in categories]
    expect_classes("Places365", CLASSES, classes, place / _CATEGORIES)
    if [number for _, number in categories] != list(range(CLASSES)):
        raise DataError(f"{place / _CATEGORIES} does not number its classes from 0 on")
    return ImageFolder(
        split(_one_of(place, _TRAIN_FOLDERS), _listed(place / _TRAIN_LIST)),
        split(_one_of(place, _VAL_FOLDERS), _listed(place / _VAL_LIST)),
        # "/a/airfield": the first letter is only a folder.
        tuple(name.lstrip("/").partition("/")[2] for name in classes),
    )


def _listed(path: Path) -> list[tuple[str, int]]:
    found = [(name.lstrip("/"), number) for name, number in numbered(path)]
    name, worst = max(found, key=lambda pair: pair[1])
    if worst >= CLASSES:
        raise DataError(f"{path} puts {name} into class {worst}, there are {CLASSES}")
    return found


def _one_of(place: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (place / name).is_dir():
            return place / name
    raise DataError(f"{place} has none of the folders {', '.join(names)}")
