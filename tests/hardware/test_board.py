"""A real board: `HEADGATE_BOARD=user@host make hardware`, with keys that need no password.

What `--on` takes is taken here: also a name in boards.toml. Only `~/.cache/headgate` and
`~/headgate` of the board are written to.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from headgate.device import Bundle, load, validate
from headgate.device.boards import find_board
from headgate.device.machines.ssh.deploy import deploy
from headgate.device.machines.ssh.machine import SshMachine

BOARD = os.environ.get("HEADGATE_BOARD", "")
pytestmark = pytest.mark.skipif(not BOARD, reason="no board: set HEADGATE_BOARD=user@host")
NAMES = ["resnet8", "resnet8-fbs-0.5"]


@pytest.fixture(scope="module")
def machine() -> SshMachine:
    return SshMachine(find_board(BOARD))


@pytest.fixture(scope="module", params=NAMES)
def bundle(request: pytest.FixtureRequest, machine: SshMachine) -> Bundle:
    from headgate.networks import compile_network, find_network

    target = os.environ.get("HEADGATE_BOARD_TARGET")
    target = target or machine.board.target_of(machine.facts().model) or "rpi4"
    return compile_network(find_network(request.param), target)


def test_the_runner_gives_the_outputs_that_pytorch_gave(bundle: Bundle) -> None:
    assert validate(bundle, BOARD).passed


def test_results_are_the_same_for_any_number_of_threads(
    bundle: Bundle, machine: SshMachine
) -> None:
    (images,), _ = bundle.vectors()
    with load(bundle, BOARD) as program:
        alone = program.run(images)
    with load(bundle, BOARD, threads=machine.facts().cores) as program:
        assert np.array_equal(program.run(images), alone)


def test_the_agents_report(bundle: Bundle, machine: SshMachine) -> None:
    report = machine.measure(bundle)
    assert report.outputs.passed
    assert report.invalid_because == []


def test_a_second_deploy_copies_nothing(
    bundle: Bundle, machine: SshMachine, tmp_path: Path
) -> None:
    path = tmp_path / f"{bundle.name}.hgb"
    bundle.save(path)
    deploy(path, machine)
    assert deploy(path, machine).copied_bytes == 0
