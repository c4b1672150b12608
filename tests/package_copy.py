"""A copy of the package, to which a test adds something as a developer would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def copy_package(folder: Path, *rooms: str) -> Path:
    """Copy ``headgate`` and its rooms (``device``, ...) into a folder; the package's place."""
    package = Path(shutil.copytree(ROOT / "headgate", folder / "headgate"))
    for room in rooms:
        shutil.copytree(ROOT / room, package / room, ignore=shutil.ignore_patterns("logs"))
    (folder / "tests").symlink_to(ROOT / "tests")
    return package


def add_row(path: Path, before: str, row: str) -> None:
    """Put a row into a table of a source file, in front of a text that stands there once."""
    text = path.read_text()
    assert text.count(before) == 1, f"{path.name}: {before!r}"
    path.write_text(text.replace(before, row + before))


def run_with(folder: Path, code: str) -> None:
    """Run Python that imports the copy, and finds its programs in that folder before others.

    The home is that folder. The C compiler alone keeps its cache, or it would build its libraries.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    env = {
        "PYTHONPATH": str(folder),
        "PATH": f"{folder}:/usr/bin:/bin",
        "HOME": str(folder),
        "ZIG_GLOBAL_CACHE_DIR": os.environ.get("ZIG_GLOBAL_CACHE_DIR", str(caches / "zig")),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
