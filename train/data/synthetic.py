"""A data set that needs no download, for tests and first tries."""

from __future__ import annotations

import numpy as np

from headgate.train.data.dataset import Dataset, UInt8Array


def synthetic(train: int = 512, test: int = 128) -> Dataset:
    """Ten classes of coloured stripes under noise, in CIFAR-10's format.

    A small network learns it in an epoch or two.
    """
    random = np.random.default_rng(0)
    columns = np.arange(32)

    def make(count: int) -> tuple[UInt8Array, UInt8Array]:
        labels = (np.arange(count) % 10).astype(np.uint8)
        stripes = np.sin(columns[None] * (1 + labels[:, None] % 5) * 0.4) * 60
        images = np.full((count, 32, 32, 3), 128.0)
        channel = np.where(labels < 5, 0, 2)
        images[np.arange(count), :, :, channel] += stripes[:, None, :]
        images += random.normal(0.0, 20.0, images.shape)
        return images.clip(0, 255).astype(np.uint8), labels

    train_images, train_labels = make(train)
    test_images, test_labels = make(test)
    return Dataset(train_images, train_labels, test_images, test_labels)
