"""Fingerprints, which tell whether a data set is still the one that a run began with."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headgate.errors import DataError, why
from headgate.train.data.dataset import Dataset
from headgate.train.data.folders import ImageFolder, Split

# JSON: "classes", their names in the labels' order; "train" and "test", each with "images", their
# number for each class, and "sha256".
Fingerprint = Mapping[str, Any]

_SIDES = {"train": "training", "test": "test"}
_NAMED = 3


def of_files(found: ImageFolder) -> Fingerprint:
    """The fingerprint of image files: names, classes and sizes in bytes, not their contents."""
    return {
        "classes": list(found.classes),
        "train": _of_split(found.train, found.classes),
        "test": _of_split(found.test, found.classes),
    }


def of_arrays(dataset: Dataset, classes: Sequence[str]) -> Fingerprint:
    """The fingerprint of a data set in memory, by its contents."""
    sums = dataset.checksums()

    def side(name: str, labels: NDArray[np.uint8]) -> dict[str, Any]:
        return _side(labels, classes, f"{sums[f'{name}_images']}\n{sums[f'{name}_labels']}")

    return {
        "classes": list(classes),
        "train": side("train", dataset.train_labels),
        "test": side("test", dataset.test_labels),
    }


def _of_split(split: Split, classes: Sequence[str]) -> dict[str, Any]:
    lines = []
    for name, label in zip(split.names, split.labels, strict=True):
        try:
            size = os.stat(split.folder / name).st_size
        except OSError as error:
            raise DataError(
                f"image {split.folder / name} cannot be read ({why(error)}): fetch it again, "
                "or take it off the list"
            ) from error
        lines.append(f"{classes[label]}\0{name}\0{size}\n")
    return _side(split.labels, classes, "".join(sorted(lines)))


def _side(labels: NDArray[Any], classes: Sequence[str], content: str) -> dict[str, Any]:
    return {
        "images": np.bincount(labels, minlength=len(classes)).tolist(),
        # A file's name need not be UTF-8.
        "sha256": hashlib.sha256(content.encode(errors="surrogateescape")).hexdigest(),
    }


def differences(before: Fingerprint, now: Fingerprint) -> list[str]:
    """The changes from ``before`` to ``now`` in words; empty if there are none."""
    had, has = before["classes"], now["classes"]
    found = []
    for word, names in (
        ("gone", [name for name in had if name not in has]),
        ("new", [name for name in has if name not in had]),
    ):
        if names:
            found.append(f"{word}: class {_some([repr(name) for name in names])}")
    if not found and had != has:
        found.append("classes in another order")
    for side, title in _SIDES.items():
        earlier, later = (
            dict(zip(data["classes"], data[side]["images"], strict=True)) for data in (before, now)
        )
        changed = [
            f"{name!r} {later[name] - count:+d}"
            for name, count in earlier.items()
            if name in later and later[name] != count
        ]
        if changed:
            totals = f"{sum(later.values())} {title} images for {sum(earlier.values())}"
            found.append(f"{totals} ({_some(changed)})")
        elif had == has and before[side]["sha256"] != now[side]["sha256"]:
            found.append(f"{title} images of other names, sizes or classes")
    return found


def _some(words: Sequence[str]) -> str:
    more = len(words) - _NAMED
    return ", ".join(words[:_NAMED]) + (f" and {more} more" if more > 0 else "")
