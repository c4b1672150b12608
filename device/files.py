"""Files that a reader never sees half of, and archives whose bytes follow from their contents."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from headgate.device.agent.whole_file import whole_file
from headgate.errors import StorageError, why

_DATE = (1980, 1, 1, 0, 0, 0)
_ADVICE = {
    errno.ENOSPC: "no space left on the disk; free some and try again",
    errno.EDQUOT: "the disk quota is used up; free some space and try again",
    errno.EACCES: "no permission; choose a folder you may write to",
    errno.EPERM: "no permission; choose a folder you may write to",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.ENOENT: "its folder does not exist; create that first",
    errno.ENOTDIR: "part of its path is not a folder; check the path",
    errno.EFBIG: "larger than this disk allows; choose another folder",
}


def storage_error(action: str, path: str | Path, error: OSError) -> StorageError:
    """What tells in one line why reading or writing failed."""
    reason = _ADVICE.get(error.errno or 0) or why(error)
    return StorageError(f"cannot {action} {path}: {reason}")


def stored_archive(
    contents: Mapping[str, bytes], executable: Collection[str] = (), before: bytes = b""
) -> bytes:
    """A zip archive of members by name, not compressed; equal contents are equal bytes.

    ``before`` is what the file begins with, such as a line for the shell.
    """
    buffer = io.BytesIO()
    buffer.write(before)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name in sorted(contents):
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system = 3  # Unix, also when written elsewhere
            info.external_attr = (0o755 if name in executable else 0o644) << 16
            archive.writestr(info, contents[name])
    return buffer.getvalue()


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """As :func:`headgate.device.agent.whole_file.whole_file`, with errors of headgate's.

    Raises:
        StorageError: the block or the writing raised an OSError (a full disk, no permission),
            or ``path`` is a folder or a device.
    """
    # Replacing /dev/null by a file is what os.replace would do for a user who is root.
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise StorageError(f"cannot write {path}: it is not an ordinary file; choose another name")
    try:
        with whole_file(target) as file:
            yield file
    except OSError as error:
        raise storage_error("write", path, error) from error
