"""A real board: `HEADGATE_BOARD=user@host make hardware`, with keys that need no password.

Only /tmp of the board is written to, and the folder made there is removed.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

BOARD = os.environ.get("HEADGATE_BOARD")
TARGET = os.environ.get("HEADGATE_BOARD_TARGET", "rpi4")
pytestmark = pytest.mark.skipif(
    BOARD is None, reason="no board: set HEADGATE_BOARD=user@host (and HEADGATE_BOARD_TARGET)"
)


def ssh(*command: str) -> str:
    done = subprocess.run(
        ["ssh", "-o", "BatchMode=yes", str(BOARD), *command],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def folder() -> Iterator[str]:
    path = ssh("mktemp", "-d", "/tmp/headgate.XXXXXX")
    yield path
    ssh("rm", "-r", path)


@pytest.mark.parametrize("name", ["resnet8", "resnet8-fbs-0.5"])
def test_the_runner_gives_the_outputs_that_pytorch_gave(
    name: str, folder: str, tmp_path: Path
) -> None:
    from headgate.networks import compile_network, find_network

    bundle = compile_network(find_network(name), TARGET)
    (inputs,), (expected,) = bundle.vectors()
    (tmp_path / "runner").write_bytes(bundle.members["code/runner"])
    (tmp_path / "weights").write_bytes(bundle.members["weights.safetensors"])
    (tmp_path / "input").write_bytes(inputs.tobytes())
    files = [str(tmp_path / name) for name in ("runner", "weights", "input")]
    subprocess.run(["scp", "-q", "-B", *files, f"{BOARD}:{folder}"], check=True, timeout=120)
    ssh(
        f"chmod +x {folder}/runner && {folder}/runner --weights {folder}/weights "
        f"--input {folder}/input --output {folder}/output"
    )
    back = ["scp", "-q", "-B", f"{BOARD}:{folder}/output", str(tmp_path / "output")]
    subprocess.run(back, check=True, timeout=120)

    given = np.fromfile(tmp_path / "output", "<f4").reshape(expected.shape)
    tolerance = bundle.manifest["tolerance"] * np.abs(expected).max()
    assert np.abs(given - expected).max() <= tolerance
    assert (given.argmax(1) == expected.argmax(1)).all()
