"""Data sets in memory, four uint8 arrays each, and where data sets are kept."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

UInt8Array = NDArray[np.uint8]


def data_folder() -> Path:
    """``HEADGATE_DATA`` if set, else ``~/.cache/headgate``."""
    named = os.environ.get("HEADGATE_DATA")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "headgate"


@dataclass(frozen=True)
class Dataset:
    """Images uint8 (N, H, W, 3), labels uint8 (N,), for training and for testing."""

    train_images: UInt8Array
    train_labels: UInt8Array
    test_images: UInt8Array
    test_labels: UInt8Array

    def arrays(self) -> dict[str, UInt8Array]:
        return dict(vars(self))

    def checksums(self) -> dict[str, str]:
        """SHA-256 of each array's bytes in C order."""
        return {
            name: hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
            for name, array in self.arrays().items()
        }


def synthetic(train: int = 512, test: int = 128) -> Dataset:
    """Ten classes of coloured stripes under noise, in CIFAR-10's format, for first tries."""
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

    return Dataset(*make(train), *make(test))
