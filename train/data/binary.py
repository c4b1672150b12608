"""The original binary layout of CIFAR-10: one label byte, then the red, green and blue planes."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from headgate.errors import DataError
from headgate.train.data.dataset import Dataset, UInt8Array

TRAIN_BATCHES = tuple(f"data_batch_{index}.bin" for index in range(1, 6))
TEST_BATCH = "test_batch.bin"
RECORD_BYTES = 1 + 3 * 32 * 32
BATCH_BYTES = 10_000 * RECORD_BYTES


def parse_batch(content: bytes, name: str) -> tuple[UInt8Array, UInt8Array]:
    """Images uint8 (N, 32, 32, 3) and labels uint8 (N,) of one batch.

    Raises:
        DataError: if the length is no multiple of a record, naming the batch.
    """
    if not content or len(content) % RECORD_BYTES:
        raise DataError(
            f"{name} has {len(content)} bytes, not a multiple of {RECORD_BYTES}: "
            "it is truncated or not a CIFAR-10 binary batch, fetch it again"
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, RECORD_BYTES)
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, 0].copy()


def _assemble(read: Callable[[str], bytes]) -> Dataset:
    parts = [parse_batch(read(name), name) for name in TRAIN_BATCHES]
    test_images, test_labels = parse_batch(read(TEST_BATCH), TEST_BATCH)
    return Dataset(
        train_images=np.concatenate([images for images, _ in parts]),
        train_labels=np.concatenate([labels for _, labels in parts]),
        test_images=test_images,
        test_labels=test_labels,
    )


def from_folder(folder: Path) -> Dataset:
    """Reads data_batch_1.bin to data_batch_5.bin and test_batch.bin of a user's own folder.

    Raises:
        DataError: naming the batch that is missing, unreadable or of the wrong length.
    """

    def read(name: str) -> bytes:
        try:
            return (folder / name).read_bytes()
        except OSError as error:
            raise DataError(
                f"{folder / name} cannot be read ({error.strerror}): the folder must hold "
                f"{', '.join(TRAIN_BATCHES)} and {TEST_BATCH}"
            ) from error

    return _assemble(read)


def from_archive(path: Path) -> Dataset:
    """Reads the published cifar-10-binary.tar.gz.

    Members are matched by their full name and read into memory, never extracted, so that a
    hostile path in the archive has nowhere to go.

    Raises:
        DataError: if a batch is missing, is no plain file or has the wrong size.
    """
    members = read_members(
        path, {f"cifar-10-batches-bin/{n}": BATCH_BYTES for n in (*TRAIN_BATCHES, TEST_BATCH)}
    )
    return _assemble(lambda name: members[f"cifar-10-batches-bin/{name}"])


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
        raise DataError(f"{path.name} is not a readable archive: {error}") from error
    missing = sorted(set(largest) - set(found))
    if missing:
        raise DataError(f"{path.name} lacks {', '.join(missing)}; fetch the archive again")
    return found
