"""What all tests share: tiers by folder, and fixtures for tools that may be missing."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.session_cache import cache_folder

# Workers share the cores; torch, which reads this when it is imported, would take all in each.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Behind nohup, or in a script's background, interrupts are ignored, which programs that tests start
# and interrupt would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The first example compiles, loads or traces something: a deadline would only measure the machine.
settings.register_profile("headgate", deadline=None, print_blob=True)
settings.load_profile("headgate")

TIERS = {"training", "integration", "hardware", "timing"}


def pytest_configure(config: pytest.Config) -> None:
    """The process that starts the others gives them a folder for what is made once."""
    folder = cache_folder()
    folder.__enter__()
    config.add_cleanup(lambda: folder.__exit__(None, None, None))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test's tier is the folder it lies in."""
    root = Path(__file__).parent
    for item in items:
        for tier in TIERS.intersection(item.path.relative_to(root).parts):
            item.add_marker(tier)
            if tier == "timing" and os.environ.get("HEADGATE_TIMING") != "1":
                item.add_marker(pytest.mark.skip(reason="needs a quiet machine: make timing"))


@pytest.fixture(autouse=True)
def no_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What commands say of themselves when they take long does not depend on the machine."""
    monkeypatch.setattr("headgate.cli.output.NOTE_AFTER_S", 3600.0)


@pytest.fixture(scope="session")
def qemu_aarch64() -> str:
    """The path of qemu-aarch64; skips the test where it is not installed."""
    path = shutil.which("qemu-aarch64")
    if path is None:
        pytest.skip("qemu-aarch64 is not installed: sudo apt install qemu-user")
    return path


@pytest.fixture(scope="session")
def qemu_system_arm() -> str:
    """The path of qemu-system-arm; skips the test where it is not installed."""
    path = shutil.which("qemu-system-arm")
    if path is None:
        pytest.skip("qemu-system-arm is not installed: sudo apt install qemu-system-arm")
    return path


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on a disk without space: a real one for root, else one that says it is full."""
    folder = tmp_path / "full"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "headgate-test", str(folder)]
    if os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0:
        try:
            with (folder / "filler").open("wb", buffering=0) as filler:
                while filler.write(b"\0" * 4096):
                    pass
        except OSError as error:
            assert error.errno == errno.ENOSPC
        yield folder
        subprocess.run(["umount", str(folder)], check=True)
        return

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (folder / "filler").touch()
    monkeypatch.setattr(os, "fsync", no_space)
    yield folder
