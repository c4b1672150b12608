"""The services that go to a board, as systemd reads them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from headgate.device import image

BOARD = "/boot/firmware/headgate"


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Installed and enabled the way setup.sh does it."""
    source = Path(image.__path__[0]) / "board"
    for path in source.glob("headgate*"):
        (tmp_path / path.name).write_text(path.read_text().replace("@FOLDER@", BOARD))
    for name, target in (
        ("headgate-publish.service", "multi-user"),
        ("headgate.socket", "sockets"),
    ):
        wants = tmp_path / f"{target}.target.wants"
        wants.mkdir()
        (wants / name).symlink_to(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("unit", ["multi-user.target", "sockets.target", "headgate@1.service"])
def test_systemd_has_nothing_to_say_about_them(units: Path, unit: str) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: sudo apt install systemd")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit],
        # The empty name at the end stands for the folders of the system.
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{units}:"},
        capture_output=True,
        text=True,
    )
    # Of this machine's own units it may have much to say.
    complaints = [line for line in done.stderr.splitlines() if "headgate" in line]
    assert complaints == []
    assert "ordering cycle" not in done.stderr
