"""What all tests share: tiers by folder, and fixtures for tools that may be missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import settings

# The first example compiles, loads or traces something: a deadline would only measure the machine.
settings.register_profile("headgate", deadline=None, print_blob=True)
settings.load_profile("headgate")

TIERS = {"integration", "hardware"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test's tier is the folder it lies in."""
    root = Path(__file__).parent
    for item in items:
        for tier in TIERS.intersection(item.path.relative_to(root).parts):
            item.add_marker(tier)


@pytest.fixture(scope="session")
def qemu_aarch64() -> str:
    """The path of qemu-aarch64; skips the test where it is not installed."""
    path = shutil.which("qemu-aarch64")
    if path is None:
        pytest.skip("qemu-aarch64 is not installed: sudo apt install qemu-user")
    return path
