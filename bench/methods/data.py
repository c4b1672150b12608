"""The images that networks are compared on: CIFAR-10's test set, or the 200 of the package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headgate.errors import DataError
from headgate.train.data import cifar10, sample_images


@dataclass(frozen=True)
class Images:
    """``pixels`` uint8 (N, 32, 32, 3) and the true classes int64 (N,)."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


def sample() -> Images:
    """The first 200 test images, which come with the package."""
    return Images(*sample_images())


def whole_test_set(say: Callable[[str], None]) -> Images:
    """All 10,000 test images; where CIFAR-10 is absent, the sample and a line that says so."""
    try:
        dataset = cifar10()
    except DataError as error:
        say(f"{error}; with the 200 test images of the package instead")
        return sample()
    return Images(dataset.test_images, dataset.test_labels.astype(np.int64))
