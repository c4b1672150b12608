"""Archives of data sets: downloaded from their original address, read without being extracted."""

from __future__ import annotations

import hashlib
import http.client
import io
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

from headgate.device.files import storage_error
from headgate.errors import DataError, why
from headgate.train.progress import Progress

CONNECT_TIMEOUT_S = 8.0
_CHUNK_BYTES = 1 << 18


def published(url: str, md5: str, folder: Path) -> Path:
    """Downloads the archive at ``url`` into ``folder``; goes on where an earlier try stopped."""
    part = folder / f"{url.rpartition('/')[2]}.part"
    _download(url, part)
    digest = hashlib.md5(usedforsecurity=False)
    with part.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    if digest.hexdigest() != md5:
        part.unlink()
        raise DataError(
            f"{url} gave an archive with MD5 {digest.hexdigest()}, published is {md5}; it was "
            "removed, try again"
        )
    return part


def _download(url: str, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=CONNECT_TIMEOUT_S) as reply:
            resumed = reply.status == http.HTTPStatus.PARTIAL_CONTENT
            length = reply.headers.get("Content-Length")
            start = have if resumed else 0
            total = None if length is None else start + int(length)
            with Progress(part.stem, total, "MB", 1e-6) as progress:
                progress.advance(start)
                if not resumed:
                    part.unlink(missing_ok=True)
                while chunk := reply.read(_CHUNK_BYTES):
                    _append(part, chunk)
                    progress.advance(len(chunk))
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # Everything was already there; the checksum decides.
        raise DataError(f"{url} answered {error.code} {error.reason}") from error
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", error)
        raise DataError(f"{url} cannot be reached ({reason})") from error


def _append(part: Path, chunk: bytes) -> None:
    try:
        with part.open("ab") as file:
            file.write(chunk)
    except OSError as error:
        raise storage_error("write", part, error) from error


def read_members(path: Path, largest: dict[str, int]) -> dict[str, bytes]:
    """Contents of the members named in ``largest``, each at most that many bytes.

    Nothing is extracted, so that a hostile path in the archive has nowhere to go.

    Raises:
        DataError: a broken archive, a member that is missing, no plain file or too large.
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
