"""A disk image to be written: plain, or compressed by xz or gzip."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import lzma
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from headgate.device.files import storage_error
from headgate.device.flash import mbr, xz
from headgate.device.flash.checksum import find_checksums
from headgate.errors import InputError, MissingFile, UsageError, why

CHUNK_BYTES = 4 * 1024 * 1024
_XZ, _GZIP = b"\xfd7zXZ\0", b"\x1f\x8b"
# zip, zstd, bzip2, lz4, 7z
_NOT_SUPPORTED = b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"BZh", b"\x04\x22\x4d\x18", b"7z\xbc\xaf"


class ImageSource:
    """A disk image that is read once, from its beginning, and compared with ``NAME.sha256``.

    ``length`` is of the file; ``least_bytes`` what it unpacks to, as far as that is known: of gzip
    only what its partition table says, once the first chunk was read.

    Raises:
        MissingFile: there is no such file.
        InputError: it is no file, or no disk image.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hash, self._contents_hash = hashlib.sha256(), hashlib.sha256()
        try:
            # A pipe has no length, which is compared with the disk's before anything is lost.
            if not stat.S_ISREG(path.stat().st_mode):
                raise InputError(f"{path} is no plain file; save the image to one, and name that")
            self._wanted = find_checksums(path)
            self._file = path.open("rb")
            self.length = os.fstat(self._file.fileno()).st_size
            magic = self._file.read(6)
            is_xz, is_gzip = magic == _XZ, magic.startswith(_GZIP)
            known = None if is_gzip else self.length
            self._size = xz.unpacked_bytes(self._file) if is_xz else known
        except FileNotFoundError as error:
            raise MissingFile(f"there is no image {path}; check the path") from error
        except OSError as error:
            raise storage_error("read", path, error) from error
        self._file.seek(0)
        if magic.startswith(_NOT_SUPPORTED):
            self._file.close()
            raise InputError(
                f"{path} is compressed in a way that is not supported; unpack it first"
            )
        self.compressed = is_xz or is_gzip
        self.least_bytes = self._size or 0
        self._reader = _Counted(self._file, self._hash if self._wanted else None)
        raw = cast(BinaryIO, self._reader)
        unpacked = xz.Reader(raw) if is_xz else gzip.GzipFile(fileobj=raw) if is_gzip else raw
        self._data = cast(BinaryIO, unpacked)

    def __enter__(self) -> ImageSource:
        return self

    def __exit__(self, *details: object) -> None:
        self._file.close()

    @property
    def position(self) -> int:
        """Bytes of the file read so far, of ``length``."""
        return self._reader.count

    def must_not_be(self, target: Path) -> None:
        """Refuse a target that is this very file: writing would begin by emptying it."""
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._file.fileno()), target.stat()):
                raise UsageError(f"{target} is the image itself; name another target")

    def chunks(self) -> Iterator[bytes]:
        """The image in pieces of ``CHUNK_BYTES``, the last one shorter.

        Whatever can be known of the image by then is checked before the first one comes.

        Raises:
            InputError: it is truncated, damaged, not what its checksum says, or no disk image.
            StorageError: it cannot be read.
        """
        total = needed = 0
        try:
            while chunk := _read_full(self._data):
                if total == 0:
                    needed = self._check_start(chunk)
                total += len(chunk)
                if self._wanted:
                    self._contents_hash.update(chunk)
                yield chunk
            while self._reader.read(CHUNK_BYTES):
                pass
        except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(f"{self.path} is damaged ({why(error)}); download it again") from error
        except OSError as error:
            raise storage_error("read", self.path, error) from error
        if total == 0:
            raise InputError(f"{self.path} is empty")
        if not self.compressed and total != self.length:
            raise InputError(
                f"{self.path} had {self.length:,} bytes and ended after {total:,}: "
                "something else writes to it; try again"
            )
        self._check_size(total, needed)
        if self._wanted and not self._wanted.fit(
            self._hash.hexdigest(), self._contents_hash.hexdigest()
        ):
            raise InputError(
                f"{self.path} is not what {self._wanted.path.name} says; download it again"
            )

    def _check_start(self, chunk: bytes) -> int:
        """How long the image has to be by its partition table."""
        partitions = mbr.read_table(chunk, str(self.path))
        # What a GPT's entry says is not how long the image is.
        ends = [one.start + one.size for one in partitions if one.kind != mbr.GPT_TYPE]
        needed = max(ends, default=0)
        if self._size is not None:
            self._check_size(self._size, needed)
        self.least_bytes = max(self.least_bytes, needed)
        return needed

    def _check_size(self, size: int, needed: int) -> None:
        if size % mbr.SECTOR_BYTES:
            raise InputError(
                f"{self.path} is truncated: it ends within a sector, after {size:,} bytes; "
                "download it again"
            )
        if size < needed:
            raise InputError(
                f"{self.path} is truncated: it has {size:,} bytes, its partitions {needed:,}; "
                "download it again"
            )


class _Counted:
    """A file that counts, and hashes, what is read of it."""

    def __init__(self, file: BinaryIO, digest: hashlib._Hash | None) -> None:
        self._file = file
        self._digest = digest
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.count += len(data)
        if self._digest:
            self._digest.update(data)
        return data


def _read_full(data: BinaryIO) -> bytes:
    pieces, missing = [], CHUNK_BYTES
    while missing and (piece := data.read(missing)):
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)
