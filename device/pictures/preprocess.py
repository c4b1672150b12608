"""From stored pixels to what a network takes, in NumPy, so that a board can do it too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headgate.errors import InputError


class Preprocess:
    """Scales uint8 images to 0..1, subtracts the channel means, divides by the deviations.

    ``mean`` and ``std`` are in units of 0..1.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean = list(mean)
        self.std = list(std)

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (N, H, W, 3) to float32 (N, 3, H, W); anything else is an InputError."""
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != len(self.mean):
            raise InputError(
                f"images of shape {images.shape} and type {images.dtype} cannot be preprocessed: "
                f"give uint8 of shape (N, H, W, {len(self.mean)})"
            )
        scale = np.float32(1.0) / (np.float32(255.0) * np.asarray(self.std, dtype=np.float32))
        offset = np.asarray(self.mean, dtype=np.float32) / np.asarray(self.std, dtype=np.float32)
        planes = images.astype(np.float32) * scale - offset
        return np.ascontiguousarray(planes.transpose(0, 3, 1, 2))
