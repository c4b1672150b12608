"""`headgate mlperf` on the firmware's own C, whose pin a fake meter watches, and in QEMU."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ziglang", reason="ziglang is not installed: pip install 'headgate[compile]'")

from headgate.cli import main
from headgate.device.machines import board_clock
from headgate.device.machines.find import find_machine
from headgate.device.machines.serial import SerialMachine
from headgate.device.machines.serial_program import SerialProgram
from headgate.errors import DeviceError
from headgate.profiling.mlperf import measure_performance, rules, windows
from tests import fake_bundle
from tests.fake_meter import WORK_MW, FakeMeter
from tests.integration.conftest import Command
from tests.serial_firmware import HostileLine, firmware_bundle, plugged_in

BAD_RESULT = 3
LATENCY_S = 1e-4
"""The fake's clock, of a megahertz, moves 100 cycles with each inference."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    firmware_bundle().save(tmp_path / "fake.hgb")
    return tmp_path / "fake.hgb"


def test_performance(firmware: Path, path: Path, command: Command) -> None:
    with plugged_in(firmware) as machine:
        found = command("mlperf", "performance", path, "--on", machine, code=BAD_RESULT)
    # A real computer does in no time what the fake's clock calls ten seconds.
    assert not found["valid"]
    (reason,) = found["invalid_because"]
    assert reason.startswith("the board counted 10.")
    assert found["throughput_per_s"] == pytest.approx(1 / LATENCY_S)
    assert (found["board"], found["counter"], found["clock_hz"]) == ("fake-board", "DWT", 1_000_000)
    assert [one["sample"] for one in found["windows"]] == [0, 1, 2, 3, 4]
    assert all(one["seconds"] >= 10 and one["inferences"] >= 10 for one in found["windows"])


def test_performance_with_a_clock_that_is_right(
    firmware: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_clock, "TOLERANCE", 1e9)
    batch = fake_bundle.images(2)
    with plugged_in(firmware) as machine:
        board = find_machine(machine)
        assert isinstance(board, SerialMachine)
        with board.load(firmware_bundle(), 1) as program:
            found = measure_performance(program, [batch])
            assert found.valid and found.throughput_per_s == pytest.approx(1 / LATENCY_S)
            assert found.warnings == ["'fake' has 2 inputs for 5 windows; some are reused"]
            batch[0, 0, 0, 0] = np.nan
            with pytest.raises(DeviceError, match="returned error 7"):
                measure_performance(program, [batch])


def test_energy_by_the_pin_and_a_meters_log(
    firmware: Path, path: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(board_clock, "TOLERANCE", 1e9)
    edges, run = tmp_path / "edges", tmp_path / "run.json"
    with plugged_in(firmware, edges) as machine:
        command("mlperf", "energy", path, "--on", machine, "-o", run)
    # High after its start; low during a window, and once more behind it, for 10 us or more.
    rows = [line.split() for line in edges.read_text().splitlines()]
    assert [level for _, level in rows] == ["1", *["0", "1", "0", "1"] * 5]
    moments = [int(cycles) for cycles, _ in rows]
    assert all(later - one >= 10 for one, later in pairwise(moments[1:]))
    meter = FakeMeter.of_edges(edges, 1e6)
    assert len(meter.falls_s) == 2 * rules.BY_THE_RULES.windows
    found, report = [], tmp_path / "energy.json"
    for name, write in (("lpm.log", meter.lpm01a), ("js.csv", meter.joulescope)):
        write(tmp_path / name)
        words = ("mlperf", "energy", run, "--log", tmp_path / name, "-o", report)
        found.append(command(*words))
        assert found[-1] == json.loads(report.read_text())
    for one in found:
        assert one["valid"], one["invalid_because"]
        energy = one["energy"]
        assert energy["energy_per_inference_mj"] == pytest.approx(WORK_MW * LATENCY_S, rel=2e-3)
        assert [window["sample"] for window in energy["windows"]] == [0, 1, 2, 3, 4]
    command("report", tmp_path / "energy.json", "-o", tmp_path / "page.html")
    assert "Joulescope" in (tmp_path / "page.html").read_text()


def test_a_board_that_is_reset_in_a_window(firmware: Path) -> None:
    program = SerialProgram(
        firmware_bundle(), "board", lambda: HostileLine(firmware, reset_after=4)
    )
    with program, pytest.raises(DeviceError, match="board was reset meanwhile; measure again"):
        measure_performance(program, [fake_bundle.images(2)])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["performance", "--on", "host"], "give a board's port"),
        (["performance", "--on", "qemu:cortex-m4"], "give a board's port"),
        (["energy"], "first --on MACHINE"),
        (["energy", "--on", "serial:/dev/nothing"], "add -o run.json"),
        (["energy", "--on", "serial:/dev/nothing", "--pin", "d7"], "--pin means nothing beside"),
        (["energy", "--on", "serial:/dev/nothing", "--column", "p"], "--column p: for a meter"),
        (["energy", "--log", "x.csv", "--sensor", "rapl"], "--sensor means nothing beside --log"),
        (["accuracy", "--on", "host"], "needs labelled images"),
        (["accuracy", "--on", "host", "--images", "sample", "--task", "icc"], "unknown --task"),
    ],
)
def test_what_cannot_be_asked(
    words: list[str], message: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mlperf", words[0], str(path), *words[1:]]) == 2
    assert message in capsys.readouterr().err


def test_accuracy_of_a_data_set_in_mlperfs_form(
    firmware: Path, path: Path, tmp_path: Path, command: Command
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 2, 3, 4), np.uint8)
    folder = tmp_path / "ic01"
    folder.mkdir()
    scores = fake_bundle.expected(
        np.ascontiguousarray(((pixels / 255 - 0.5) / 0.25).transpose(0, 3, 1, 2), np.float32)
    )
    for index, image in enumerate(pixels):
        (folder / f"{index}.bin").write_bytes(image.tobytes())
    lines = [f"{index}.bin,4,{row.argmax()}" for index, row in enumerate(scores)]
    (folder / "y_labels.csv").write_text("\n".join(lines))
    bundle = fake_bundle.bundle(
        dict(firmware_bundle().members), preprocess={"mean": [0.5] * 4, "std": [0.25] * 4}
    )
    bundle.save(path)
    with plugged_in(firmware) as machine:
        words = ("mlperf", "accuracy", path, "--on", machine, "--images", folder)
        found = command(*words, "--task", "ic")
    assert (found["images"], found["top1"], found["passed"]) == (20, 1.0, True)
