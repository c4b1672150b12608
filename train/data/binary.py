"""The original binary layout of CIFAR: label bytes, then the red, green and blue planes."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headgate.errors import DataError, why
from headgate.train.data.dataset import Dataset, UInt8Array
from headgate.train.data.sources import published

PIXEL_BYTES = 3 * 32 * 32


@dataclass(frozen=True)
class Layout:
    """The files of one version.

    Attributes:
        title: the data set's name.
        url: the published archive.
        md5: its checksum, as published beside it.
        folder: where the files lie in the published archive.
        train: file names, in order.
        test: file name.
        images: the most images a file has.
        label_bytes: labels before the pixels of each image; the last one is its class.
    """

    title: str
    url: str
    md5: str
    folder: str
    train: tuple[str, ...]
    test: str
    images: int
    label_bytes: int

    @property
    def record_bytes(self) -> int:
        return self.label_bytes + PIXEL_BYTES

    def fetch(self, folder: Path) -> Dataset:
        """Downloads the archive into ``folder`` and reads it.

        Raises:
            DataError: as :func:`published` and :func:`from_archive`.
        """
        return from_archive(published(self.url, self.md5, folder), self)


CIFAR10 = Layout(
    title="CIFAR-10",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    folder="cifar-10-batches-bin",
    train=tuple(f"data_batch_{index}.bin" for index in range(1, 6)),
    test="test_batch.bin",
    images=10_000,
    label_bytes=1,
)
CIFAR100 = Layout(
    title="CIFAR-100",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    folder="cifar-100-binary",
    train=("train.bin",),
    test="test.bin",
    images=50_000,
    label_bytes=2,  # the coarse label, then the fine one
)


def parse_batch(content: bytes, name: str, layout: Layout) -> tuple[UInt8Array, UInt8Array]:
    """Images uint8 (N, 32, 32, 3) and labels uint8 (N,) of one file.

    Raises:
        DataError: if the length is no multiple of a record, naming the file.
    """
    if not content or len(content) % layout.record_bytes:
        raise DataError(
            f"{name} has {len(content)} bytes, not a multiple of {layout.record_bytes}: "
            f"it is truncated or no binary file of {layout.title}, fetch it again"
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, layout.record_bytes)
    planes = records[:, layout.label_bytes :].reshape(-1, 3, 32, 32)
    labels = records[:, layout.label_bytes - 1].copy()
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def _assemble(layout: Layout, read: Callable[[str], bytes]) -> Dataset:
    parts = [parse_batch(read(name), name, layout) for name in layout.train]
    test_images, test_labels = parse_batch(read(layout.test), layout.test, layout)
    return Dataset(
        train_images=np.concatenate([images for images, _ in parts]),
        train_labels=np.concatenate([labels for _, labels in parts]),
        test_images=test_images,
        test_labels=test_labels,
    )


def from_folder(folder: Path, layout: Layout) -> Dataset:
    """Reads the layout's files from a user's own folder.

    Raises:
        DataError: naming the file that is missing, unreadable or of the wrong length.
    """

    def read(name: str) -> bytes:
        try:
            return (folder / name).read_bytes()
        except OSError as error:
            raise DataError(
                f"{folder / name} cannot be read ({why(error)}): the folder must hold "
                f"{', '.join(layout.train)} and {layout.test}"
            ) from error

    return _assemble(layout, read)


def from_archive(path: Path, layout: Layout) -> Dataset:
    """Reads the published archive, .tar.gz.

    Members are matched by their full name and read into memory, never extracted, so that a
    hostile path in the archive has nowhere to go.

    Raises:
        DataError: if a file is missing, is no plain file or has the wrong size.
    """
    largest = layout.images * layout.record_bytes
    files = (*layout.train, layout.test)
    members = read_members(path, {f"{layout.folder}/{name}": largest for name in files})
    return _assemble(layout, lambda name: members[f"{layout.folder}/{name}"])


def read_members(path: Path, largest: dict[str, int]) -> dict[str, bytes]:
    """Contents of the members named in ``largest``, each at most that many bytes.

    Raises:
        DataError: for a broken archive, a missing member, one that is no plain file, and one
            that claims more bytes than allowed.
    """
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, mode="r:gz") as archive:
            for member in archive:
                if member.name not in largest:
                    continue
                if not member.isfile() or member.size > largest[member.name]:
                    raise DataError(
                        f"{path.name}: member {member.name} is no plain file of at most "
                        f"{largest[member.name]} bytes; fetch the archive again"
                    )
                file = archive.extractfile(member) or io.BytesIO()
                found[member.name] = file.read(largest[member.name])
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path.name} is not a readable archive: {why(error)}") from error
    missing = sorted(set(largest) - set(found))
    if missing:
        raise DataError(f"{path.name} lacks {', '.join(missing)}; fetch the archive again")
    return found
