"""Flashing a real block device: a loop device stands for the card."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.device.flash import ImageSource, Target, find_target, flash
from headgate.errors import DeviceError

SIZE_BYTES = 24 * 1024 * 1024


@pytest.fixture
def card(tmp_path: Path) -> Iterator[Target]:
    """A card with something on it; needs root."""
    file = tmp_path / "card"
    file.write_bytes(random.Random(1).randbytes(SIZE_BYTES))
    made = subprocess.run(["losetup", "-f", "--show", file], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no loop device: {made.stderr.strip()}")
    path = Path(made.stdout.strip())
    try:
        yield find_target(path, machine_with(path, tmp_path / "root"))
    finally:
        subprocess.run(["losetup", "-d", path], check=True)


def machine_with(disk: Path, root: Path) -> Path:
    """A root where a loop device is a USB disk; it stays a device, and its numbers its own."""
    block = root / "sys/devices/usb1" / disk.name
    (block / "device").mkdir(parents=True)
    for name in ("dev", "size", "ro", "diskseq"):
        real = Path("/sys/block") / disk.name / name
        if real.exists():
            (block / name).symlink_to(real)
    (block / "device/model").write_text("Loop\n")
    (root / "sys/block").mkdir()
    (root / "sys/block" / disk.name).symlink_to(block)
    (root / "dev").symlink_to("/dev")
    return root


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Twelve and a half MiB, with zeros in between."""
    noise = random.Random(0).randbytes(5 * 1024 * 1024)
    data = (
        noise[:446]
        + bytes(64)
        + b"\x55\xaa"
        + noise[512:]
        + bytes(3 * 1024 * 1024)
        + noise[: 9 << 19]
    )
    path = tmp_path / "pi.img"
    path.write_bytes(data)
    return path


def test_a_block_device_holds_the_image(card: Target, image: Path) -> None:
    with ImageSource(image) as source:
        done = flash(source, card)
    data = image.read_bytes()
    with card.path.open("rb") as device:
        assert device.read(len(data)) == data
    assert done.size_bytes == len(data)


def test_a_disk_in_use_is_not_opened(card: Target, image: Path) -> None:
    holder = os.open(card.path, os.O_RDWR | os.O_EXCL)
    try:
        with ImageSource(image) as source, pytest.raises(DeviceError, match="is in use"):
            flash(source, card)
    finally:
        os.close(holder)
    assert card.path.read_bytes()[510:512] != b"\x55\xaa"


def test_another_medium_in_the_same_device_is_not_written(
    card: Target, image: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"precious".ljust(SIZE_BYTES, b"."))
    subprocess.run(["losetup", "-d", card.path], check=True)
    subprocess.run(["losetup", card.path, other], check=True)
    with ImageSource(image) as source, pytest.raises(DeviceError, match="sequence number"):
        flash(source, card)
    assert other.read_bytes().startswith(b"precious")
