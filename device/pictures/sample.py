"""The 200 real test images that travel with the package, for the demo and the tests."""

from __future__ import annotations

from importlib import resources

import numpy as np
from numpy.typing import NDArray


def sample_images() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The first 200 images of CIFAR-10's test set: uint8 (200, 32, 32, 3) and their labels."""
    with resources.files(__package__).joinpath("cifar10_sample.npz").open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        return arrays["images"], arrays["labels"].astype(np.int64)
