"""Folders in the form of MLPerf Tiny's data sets: raw pixels, and ``y_labels.csv`` with classes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headgate.errors import DataError, MissingFile, why

LABELS = "y_labels.csv"
"""Lines of a file's name, the number of classes, and its class."""


def read_labelled(
    folder: Path, shape: tuple[int, ...]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pixels (N, H, W, C) and classes (N,) of a folder.

    ``shape`` is (C, H, W); a file has the pixels of one image, row by row, its channels together.

    Raises:
        MissingFile: a file that ``y_labels.csv`` lists is not there.
        DataError: a line or a file is not of that form.
    """
    if len(shape) != 3:
        raise DataError(f"{folder} has images, the network takes no image but {shape}")
    channels, height, width = shape
    images, labels = [], []
    for name, label in _listed(folder / LABELS):
        path = folder / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise MissingFile(f"{folder / LABELS} lists {name}: {why(error)}") from error
        if len(data) != channels * height * width:
            raise DataError(
                f"{path} has {len(data)} bytes, an image of the network "
                f"{channels * height * width} ({height} x {width} x {channels})"
            )
        images.append(np.frombuffer(data, np.uint8).reshape(height, width, channels))
        labels.append(label)
    return np.stack(images), np.array(labels, np.int64)


def _listed(path: Path) -> list[tuple[str, int]]:
    found = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.reader(file), 1):
                if not row:
                    continue
                try:
                    name, _, label = row
                    found.append((name.strip(), int(label)))
                except ValueError as error:
                    raise DataError(
                        f"{path}, line {number}: {','.join(row)!r} is not a file, a number of "
                        "classes and a class"
                    ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {why(error)}") from error
    if not found:
        raise DataError(f"{path} lists no files")
    return found
