"""Real images to find the ranges of a network's tensors with, for int8."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headgate.device.pictures import sample_images
from headgate.errors import UsageError
from headgate.images import read_images
from headgate.networks import Network
from headgate.train.data import cifar10

TRAINING = "cifar10"
TRAINING_IMAGES = 1000


def calibration_images(network: Network, source: str = "sample") -> NDArray[np.float32]:
    """Images [N, C, H, W] as ``network`` takes them.

    Args:
        network: says shape and preprocessing. One with random weights has none: it gets the
            pictures normalised, and enlarged by repeating pixels where it takes larger ones.
        source: ``sample`` for the 200 images of the package, ``cifar10`` for the first 1,000
            training images, or what :func:`headgate.images.read_images` takes.

    Raises:
        UsageError: the pictures have another shape.
        DataError: CIFAR-10 has not been fetched.
        InputError, MissingFile: as ``read_images``.
    """
    if source not in ("sample", TRAINING):
        return read_images([source], network.manifest).array
    pixels = cifar10().train_images[:TRAINING_IMAGES] if source == TRAINING else sample_images()[0]
    if network.input_shape[0] != pixels.shape[3]:
        raise UsageError(
            f"{network.name} takes images of {network.input_shape[0]} channels, {source} has "
            f"{pixels.shape[3]}: --calibrate FILE.npy names others"
        )
    if network.preprocess is None:
        return _fitted(pixels, network.input_shape)
    if pixels.shape[1:3] != network.input_shape[1:]:
        _, height, width = network.input_shape
        raise UsageError(
            f"{network.name} takes images of {width}x{height}, {source} has "
            f"{pixels.shape[2]}x{pixels.shape[1]}: --calibrate FOLDER names others"
        )
    return network.preprocess(pixels)


def _fitted(pixels: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    _, height, width = shape
    repeats = max(-(-height // pixels.shape[1]), -(-width // pixels.shape[2]))
    # Large pictures in small number: these are for timing, and calibration runs in Python.
    few = pixels[: max(8, len(pixels) // repeats**2)]
    large = few.repeat(repeats, axis=1).repeat(repeats, axis=2)[:, :height, :width]
    images = large.transpose(0, 3, 1, 2).astype(np.float32)
    return np.ascontiguousarray((images - images.mean()) / images.std())
