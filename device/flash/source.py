"""A disk image to be written: plain, or compressed by xz or gzip."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import lzma
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from headgate.device.files import storage_error
from headgate.device.flash import mbr, xz
from headgate.errors import InputError, MissingFile, UsageError, why

CHUNK_BYTES = 4 * 1024 * 1024
_XZ, _GZIP, _ZIP, _ZSTD = b"\xfd7zXZ\0", b"\x1f\x8b", b"PK\x03\x04", b"\x28\xb5\x2f\xfd"


class ImageSource:
    """A disk image that is read once, from its beginning.

    Where a file ``NAME.sha256`` lies beside it, the file's bytes are compared with that.
    ``length`` is of the file; ``least_bytes`` what it unpacks to, as far as that is known: of gzip
    only what its partition table says, once the first chunk was read.

    Raises:
        MissingFile: there is no such file.
        InputError: it is no disk image.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hash = hashlib.sha256()
        try:
            self._file = path.open("rb")
            self.length = os.fstat(self._file.fileno()).st_size
            magic = self._file.read(6)
            self._size = xz.unpacked_bytes(self._file) if magic == _XZ else self.length
        except FileNotFoundError as error:
            raise MissingFile(f"there is no image {path}; check the path") from error
        except OSError as error:
            raise storage_error("read", path, error) from error
        self._file.seek(0)
        if magic.startswith((_ZIP, _ZSTD)):
            self._file.close()
            raise InputError(
                f"{path} is compressed in a way that is not supported; unpack it first"
            )
        self.compressed = magic.startswith((_XZ, _GZIP))
        if magic.startswith(_GZIP):
            self._size = None
        self.least_bytes = self._size or 0
        self._wanted = _checksum_beside(path)
        reader = _Counted(self._file, self._hash if self._wanted else None)
        self._reader = reader
        raw = cast(BinaryIO, reader)
        self._data: BinaryIO = raw
        if magic.startswith(_XZ):
            self._data = cast(BinaryIO, lzma.LZMAFile(raw))  # noqa: SIM115
        elif magic.startswith(_GZIP):
            self._data = cast(BinaryIO, gzip.GzipFile(fileobj=raw))

    def __enter__(self) -> ImageSource:
        return self

    def __exit__(self, *details: object) -> None:
        self._file.close()

    @property
    def position(self) -> int:
        """Bytes of the file read so far, of ``length``."""
        return self._reader.count

    def must_not_be(self, target: Path) -> None:
        """Refuse a target that is this very file, under whatever name.

        Raises:
            UsageError: it is; writing would begin by emptying it.
        """
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
        if self._wanted and self._hash.hexdigest() != self._wanted:
            raise InputError(
                f"{self.path} is not what {self.path.name}.sha256 says; download it again"
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

    def seekable(self) -> bool:
        return False


def _read_full(data: BinaryIO) -> bytes:
    pieces, missing = [], CHUNK_BYTES
    while missing and (piece := data.read(missing)):
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)


def _checksum_beside(path: Path) -> str | None:
    beside = path.with_name(path.name + ".sha256")
    try:
        words = beside.read_text().split()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {beside}: {why(error)}; repair or remove it") from error
    if not words or len(words[0]) != 64:
        raise InputError(f"{beside} holds no SHA-256; repair or remove it")
    return words[0].lower()
