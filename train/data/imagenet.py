"""ImageNet (ILSVRC-2012; Russakovsky et al., 2015) as its publishers and Kaggle hand it out."""

from __future__ import annotations

import csv
from pathlib import Path

from headgate.device.pictures.listing import images_in, subfolders
from headgate.errors import DataError, why
from headgate.train.data.folders import (
    ImageFolder,
    by_class,
    expect_classes,
    expect_folder,
    image_folder,
    labelled,
    split,
)
from headgate.train.data.lists import lines, pairs

CLASSES = 1000
_KAGGLE = Path("ILSVRC/Data/CLS-LOC")  # where the archive of the Kaggle competition has its images
_SOLUTION = "LOC_val_solution.csv"
_MAP = "val.txt"
_GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_CLASS_IDS = "map_clsloc.txt"


def imagenet(place: Path) -> ImageFolder:
    """ILSVRC-2012: ``train/WNID/``, and ``val/`` sorted in the same way or flat.

    For a flat ``val/`` the classes come from a file in ``place``: Kaggle's, lines of a file name
    and a WNID or the class's number in sorted order from 0 on, or the development kit's.

    Raises:
        DataError: what is missing or contradicts itself, or a number of classes other than 1,000.
    """
    expect_folder(place)
    root = place / _KAGGLE if (place / _KAGGLE).is_dir() else place
    train = by_class(root / "train")
    classes = sorted(train)
    expect_classes("ImageNet", CLASSES, classes, root / "train")
    if subfolders(root / "val"):
        return image_folder(root)
    return ImageFolder(
        split(root / "train", labelled(train, classes)),
        split(root / "val", _flat_validation(place, root / "val", classes)),
        tuple(classes),
    )


def _flat_validation(place: Path, folder: Path, classes: list[str]) -> list[tuple[str, int]]:
    images = images_in(folder)
    origin, class_of = _validation_classes(place, images, classes)
    numbers = {name: index for index, name in enumerate(classes)}
    found = []
    for image in images:
        name = class_of.get(Path(image).stem)
        if name is None:
            raise DataError(f"{origin} does not say which class {folder / image} belongs to")
        if name not in numbers:
            raise DataError(f"{origin} puts {image} into class {name!r}, which train/ has not")
        found.append((image, numbers[name]))
    return found


def _validation_classes(
    place: Path, images: list[str], classes: list[str]
) -> tuple[Path, dict[str, str]]:
    """The file that gives the classes, and class names by the stems of the images' names."""
    if (path := place / _SOLUTION).exists():
        rows = [(name, boxes.split()) for name, boxes, *_ in _rows(path)]
        return path, {name: boxes[0] for name, boxes in rows if boxes}
    if (path := place / _MAP).exists():
        known = dict(enumerate(classes))
        return path, {
            Path(name).stem: known.get(int(value), value) if value.isdecimal() else value
            for name, value in pairs(path)
        }
    if (path := place / _GROUND_TRUTH).exists():
        # Its lines: WNID, number, name.
        words = [line.split() for line in lines(place / _CLASS_IDS)]
        class_of_id = {row[1]: row[0] for row in words if len(row) > 1}
        ids = lines(path)
        if len(ids) != len(images):
            raise DataError(f"{path} has {len(ids)} lines for {len(images)} images in val/")
        stems = (Path(image).stem for image in images)
        return path, {stem: class_of_id.get(i, i) for stem, i in zip(stems, ids, strict=True)}
    raise DataError(
        f"{place / 'val'} is not sorted into classes: put {_SOLUTION}, {_MAP}, or {_GROUND_TRUTH} "
        f"and {_CLASS_IDS} into {place}"
    )


def _rows(path: Path) -> list[list[str]]:
    try:
        rows = list(csv.reader(lines(path)))[1:]
    except csv.Error as error:
        raise DataError(f"{path} is no table of comma-separated values: {why(error)}") from error
    for row in rows:
        if len(row) < 2:
            raise DataError(f"{path}: the line {','.join(row)!r} has no second column")
    return rows
