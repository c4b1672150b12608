"""A copy of what runs on a device, to which a test adds something as a developer would."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def copy_package(folder: Path) -> Path:
    """Copy ``headgate`` and ``headgate.device`` into a folder; the latter's place."""
    shutil.copytree(ROOT / "headgate", folder / "headgate")
    (folder / "tests").symlink_to(ROOT / "tests")
    return Path(shutil.copytree(ROOT / "device", folder / "headgate/device"))


def run_with(folder: Path, code: str) -> None:
    """Run Python that imports the copy, and finds its programs in that folder before others."""
    path = f"{folder}:/usr/bin:/bin"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
