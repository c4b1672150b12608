"""Writing an image so that what boots has been verified.

The first sector is zeroed before anything else is written, and gets its contents last, when all the
rest has been read back from the medium and found right. Whatever happens in between, a power cut
included, leaves something that no machine starts from: disks write one sector whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import mmap
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from headgate.device.flash.mbr import SECTOR_BYTES
from headgate.device.flash.source import CHUNK_BYTES, ImageSource
from headgate.device.flash.target import Target
from headgate.errors import DeviceError, HeadgateError, StorageError, why

Progress = Callable[[str, int, int], None]
"""Takes the phase, ``writing`` or ``verifying``, and how much of how much is done."""

_ZEROS = bytes(CHUNK_BYTES)
# Small enough for honest progress and a quick answer to a card that is pulled.
_SYNC_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class Flashed:
    """Written and read back: bytes, how many of them as data and not as zeros, SHA-256."""

    size_bytes: int
    written_bytes: int
    sha256: str


def flash(
    source: ImageSource, target: Target, progress: Progress = lambda phase, done, total: None
) -> Flashed:
    """Write an image, read it back from the medium, and only then make it bootable.

    Zeros are not written where the target reads as zero anyway: a file gets holes there.

    Raises:
        UsageError: the target is the image.
        InputError: the image is damaged or none; see :class:`ImageSource`.
        DeviceError: it does not fit, or reads back as something else, or the disk is another one.
        StorageError: the target cannot be written. After any error that came once writing had
            begun, a disk does not boot, and a file is gone.
    """
    if sys.platform != "linux":
        raise DeviceError("flashing works on Linux only; Raspberry Pi Imager writes the image too")
    source.must_not_be(target.path)
    # Read before the target is touched: what is no image must not cost anybody a card's contents.
    chunks = source.chunks()
    first = next(chunks)
    room = target.size_bytes
    if room is not None and source.least_bytes > room:
        raise DeviceError(
            f"{source.path} needs {source.least_bytes:,} bytes, {target.path} has only {room:,}; "
            "use a larger card"
        )
    descriptor = target.open()
    try:
        return _flash(descriptor, source, itertools.chain([first], chunks), target, progress)
    except BaseException as error:
        _undo(descriptor, target)
        left = "was removed" if target.disk is None else "does not boot now; flash it again"
        if isinstance(error, HeadgateError):
            raise type(error)(f"{why(error)} ({target.path} {left})") from error
        if isinstance(error, OSError):
            reason = "no space left" if error.errno == errno.ENOSPC else why(error)
            raise StorageError(
                f"writing to {target.path} failed: {reason} ({target.path} {left})"
            ) from error
        raise
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _flash(
    descriptor: int,
    source: ImageSource,
    chunks: Iterable[bytes],
    target: Target,
    progress: Progress,
) -> Flashed:
    _unboot(descriptor)
    target.clear(descriptor)
    _unboot(descriptor)
    sector, digests, total, written = b"", [], 0, 0
    whole = hashlib.sha256()
    for chunk in chunks:
        if target.size_bytes is not None and total + len(chunk) > target.size_bytes:
            raise DeviceError(f"{source.path} does not fit on {target.path}; use a larger card")
        whole.update(chunk)
        if total == 0:
            sector, rest = chunk[:SECTOR_BYTES], chunk[SECTOR_BYTES:]
            first_digest = hashlib.sha256(chunk).digest()
            chunk = bytes(len(sector)) + rest
            written += _write_unless_zero(descriptor, rest, len(sector))
        else:
            written += _write_unless_zero(descriptor, chunk, total)
        digests.append(hashlib.sha256(chunk).digest())
        total += len(chunk)
        if total % _SYNC_BYTES == 0:
            os.fdatasync(descriptor)
        progress("writing", source.position, source.length)
    if target.disk is None:
        os.ftruncate(descriptor, total)
    os.fsync(descriptor)
    _verify(descriptor, target, digests, total, progress)
    _write(descriptor, sector, 0)
    os.fsync(descriptor)
    _verify(descriptor, target, [first_digest], min(total, CHUNK_BYTES), progress)
    return Flashed(total, written + len(sector), whole.hexdigest())


def _unboot(descriptor: int) -> None:
    """Zero the partition table, on the medium, before anything else happens."""
    _write(descriptor, bytes(SECTOR_BYTES), 0)
    os.fsync(descriptor)


def _write_unless_zero(descriptor: int, chunk: bytes, offset: int) -> int:
    """Bytes that had to be written."""
    if chunk == _ZEROS[: len(chunk)]:
        # Beyond the end of a file nothing is read: that will be a hole.
        present = os.pread(descriptor, len(chunk), offset)
        if present == _ZEROS[: len(present)]:
            return 0
    _write(descriptor, chunk, offset)
    return len(chunk)


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        if count <= 0:
            raise OSError(errno.EIO, "the disk takes no more data")
        view, offset = view[count:], offset + count


def _verify(
    descriptor: int, target: Target, digests: list[bytes], total: int, progress: Progress
) -> None:
    """Compare pieces of the medium with what the source held."""
    target.drop_cache(descriptor)
    with _uncached(descriptor, target) as reader, mmap.mmap(-1, CHUNK_BYTES) as buffer:
        for index, digest in enumerate(digests):
            offset = index * CHUNK_BYTES
            length = min(CHUNK_BYTES, total - offset)
            count = _read(reader, buffer, offset, length)
            if count < length or hashlib.sha256(buffer[:length]).digest() != digest:
                raise DeviceError(
                    f"{target.path} reads back as something else than was written, in the "
                    f"{CHUNK_BYTES:,} bytes from {offset:,}; the card is worn out or false: use "
                    "another"
                )
            progress("verifying", offset + length, total)


@contextlib.contextmanager
def _uncached(descriptor: int, target: Target) -> Iterator[int]:
    """Read past the page cache where the file system can do that."""
    try:
        reader = os.open(target.path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
    except OSError:
        # tmpfs of older kernels: it has no medium but memory.
        yield descriptor
        return
    try:
        yield reader
    finally:
        os.close(reader)


def _read(descriptor: int, buffer: mmap.mmap, offset: int, length: int) -> int:
    """Fill the buffer, from which direct reads need whole sectors; how much there was."""
    count = 0
    with memoryview(buffer) as view:
        while count < length:
            step = os.preadv(descriptor, [view[count:]], offset + count)
            if step <= 0:
                break
            count += step
    return count


def _undo(descriptor: int, target: Target) -> None:
    """Leave nothing that boots, as far as the disk still answers."""
    with contextlib.suppress(OSError):
        if target.disk is None:
            target.path.unlink()
        else:
            _unboot(descriptor)
