"""A copy of the package, to which a test adds something as a developer would."""

from __future__ import annotations

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
    """Run Python that imports the copy, and finds its programs in that folder before others."""
    path = f"{folder}:/usr/bin:/bin"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": path, "HOME": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
