"""MLPerf Tiny's figures: AUC, targets, broken rules, energy of a run from a meter's log."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.energy import Energy
from headgate.device.agent.sensors.base import SAMPLED, Channel, Sample, Sensor
from headgate.device.agent.settings import Plan
from headgate.device.pictures.labelled import read_labelled
from headgate.device.serial_protocol import Greeting
from headgate.errors import DataError, DeviceError, InputError, MissingFile
from headgate.profiling.meters import read_log
from headgate.profiling.mlperf import (
    TASKS,
    EnergyRun,
    energy_report,
    find_sensor,
    live_energy,
    measure_accuracy,
)
from headgate.profiling.mlperf.accuracy import auc
from headgate.profiling.mlperf.energy import read_energy_run
from headgate.profiling.mlperf.rules import broken_rules
from headgate.profiling.mlperf.windows import Window
from tests import agent_reports, fake_bundle
from tests.fake_meter import IDLE_MW, WORK_MW, FakeMeter
from tests.fake_program import ScriptedProgram


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auc_is_the_share_of_pairs_in_order(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([[score] for score, _ in pairs], np.float32)
    labels = np.array([label for _, label in pairs], np.int64)
    right, wrong = ([one for one, label in pairs if label == which] for which in (True, False))
    if not (right and wrong):
        assert isinstance(auc(scores, labels), NotMeasured)
        return
    leads = sum((a > b) + (a == b) / 2 for a in right for b in wrong)
    assert auc(scores, labels) == pytest.approx(leads / (len(right) * len(wrong)))


def test_auc_of_classes_is_the_mean_of_one_against_the_rest() -> None:
    logits = np.array([[3, 0, 0], [0, 2, 0], [0, 0, 1], [0, 1, 0.5]], np.float32)
    # The third class leads all but for nobody; the last image is the second most like its class.
    assert auc(logits, np.array([0, 1, 2, 2])) == pytest.approx(1.0)
    assert auc(logits, np.array([0, 1, 2, 0])) == pytest.approx((3 / 4 + 1 + 1) / 3)
    powers = np.exp(logits)
    probabilities = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    labels = np.array([0, 1, 2, 0])
    assert auc(logits, labels) == pytest.approx(auc(probabilities, labels))


def test_accuracy_against_a_target() -> None:
    images = fake_bundle.images(40)
    scores = fake_bundle.expected(images)
    program = ScriptedProgram(lambda run: 1.0)
    program.scores = lambda given: scores  # type: ignore[method-assign]
    labels = scores.argmax(axis=1)
    found = measure_accuracy(program, images, labels, TASKS["ic"])
    assert (found.top1, found.passed) == (1.0, True)
    wrong = labels.copy()
    wrong[:8] = (wrong[:8] + 1) % 4
    found = measure_accuracy(program, images, wrong, TASKS["ic"])
    assert (found.top1, found.passed) == (0.8, False)
    assert measure_accuracy(program, images, wrong, TASKS["vww"]).passed is True
    assert isinstance(measure_accuracy(program, images, wrong).passed, NotMeasured)
    with pytest.raises(InputError, match="labels are 0 to 9, 'fake' has 4 classes"):
        measure_accuracy(program, images, np.arange(40) % 10)


def test_rules() -> None:
    assert broken_rules([10.0] * 5, [10] * 5) == []
    assert broken_rules([10.1] * 4, [10] * 4) == ["4 windows; the rules ask for 5"]
    assert broken_rules([10, 10, 9.99, 10, 10], [10, 9, 10, 10, 10]) == [
        "window 2 has 9 inferences; the rules ask for 10",
        "window 3 took 9.99 s; the rules ask for 10 s",
    ]


LENGTHS_S = [10.2, 10.4, 10.1, 10.3, 10.2]


@pytest.fixture
def run(tmp_path: Path) -> EnergyRun:
    windows = [Window(index, 100, length, length) for index, length in enumerate(LENGTHS_S)]
    (report,) = agent_reports.decoded([agent_reports.agent_report(tmp_path, energy=False)])
    return EnergyRun("mlperf-energy", windows, 10.0, report)


def test_energy_of_a_run(run: EnergyRun, tmp_path: Path) -> None:
    path = tmp_path / "lpm.log"
    FakeMeter.of_windows(LENGTHS_S).lpm01a(path)
    report = energy_report(run, read_log(path))
    assert report.valid, report.invalid_because
    energy = report.energy
    assert isinstance(energy, Energy)
    assert energy.energy_per_inference_mj == pytest.approx(0.102 * WORK_MW, rel=1e-3)
    net_mw = WORK_MW - IDLE_MW
    assert energy.net_energy_per_inference_mj == pytest.approx(0.102 * net_mw, rel=1e-3)
    assert energy.idle.average_power_mw == pytest.approx(IDLE_MW, rel=1e-3)
    assert [one.latency_ms for one in energy.windows] == pytest.approx(
        [10 * length for length in LENGTHS_S], rel=1e-3
    )
    assert energy.sensor == "LPM01A" and energy.warnings == []


def test_what_a_run_and_a_log_do_not_agree_on(run: EnergyRun, tmp_path: Path) -> None:
    path = tmp_path / "trace-energy.bin"
    FakeMeter.of_windows([*LENGTHS_S[:4], 12.0]).runner_trace(path)
    with pytest.raises(InputError, match=r"window 5 lasts 12.00 s .* 10.20 s by the board's clock"):
        energy_report(run, read_log(path))
    FakeMeter.of_windows(LENGTHS_S[:4]).joulescope(tmp_path / "js.csv")
    with pytest.raises(InputError, match="has 4 windows, the board measured 5"):
        energy_report(run, read_log(tmp_path / "js.csv"))


def test_what_does_not_count(run: EnergyRun, tmp_path: Path) -> None:
    path = tmp_path / "js.csv"
    short = [one / 10 for one in LENGTHS_S[:4]]
    FakeMeter.of_windows(short, idle_s=10).joulescope(path, rate_hz=20)
    windows = [dataclasses.replace(one, seconds=one.seconds / 10) for one in run.windows[:4]]
    report = energy_report(dataclasses.replace(run, windows=windows), read_log(path))
    text = "; ".join(report.invalid_because)
    assert not report.valid
    assert "4 windows; the rules ask for 5" in text
    assert "energy: window 1 took 1.0" in text
    assert "too few for windows of 1 s" in text


class Board:
    """A board at work for a millisecond an inference, and a sensor that sees it."""

    run_s = 1.0
    machine = "board"

    def __init__(self) -> None:
        self.working = False
        self.written: list[bytes] = []

    @contextmanager
    def session(self) -> Iterator[Any]:
        yield self, Greeting(b"", 1_000_000, "DWT", "a board")

    def write(self, index: int, data: bytes) -> None:
        self.written.append(data)

    def run(self, layers: bool, seconds: float, *, inferences: int = 1, **options: Any) -> int:
        self.working = inferences > 1
        time.sleep(inferences / 1000)
        self.working = False
        return 1000 * inferences


@dataclasses.dataclass
class Seeing(Sensor):
    board: Board = dataclasses.field(default_factory=Board)

    def poll(self, now_ns: int) -> list[Sample]:
        return [Sample(now_ns, {"power": 70.0 if self.board.working else 20.0})]


def test_energy_by_a_sensor_meanwhile(run: EnergyRun) -> None:
    board = Board()
    sensor = Seeing("seeing", SAMPLED, [Channel("power", "external", "x")], ["power"], "y", 200.0)
    sensor.board = board
    inputs = [fake_bundle.images(2)]
    plan = Plan(window_s=0.3, idle_s=0.3, windows=2)
    report = live_energy(board, inputs, run.report, sensor, plan)  # type: ignore[arg-type]
    energy = report.energy
    assert isinstance(energy, Energy) and energy.sensor == "seeing"
    assert [one.latency_ms for one in energy.windows] == [1.0, 1.0]
    assert [one.sample for one in energy.windows] == [0, 1]
    # Times are real here, so a busy computer may miss the board at work.
    assert 20 <= energy.average_power_mw <= 70
    assert energy.idle.average_power_mw == pytest.approx(20)
    assert "energy: 2 windows; the rules ask for 5" in report.invalid_because
    assert board.written[-1] == inputs[0][1].tobytes()


def test_a_sensor_that_is_not_there() -> None:
    with pytest.raises(DeviceError, match=r"energy cannot be measured: .*no such kind"):
        find_sensor("nothing")


def test_a_run_is_read_as_it_was_written(run: EnergyRun, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run.to_json()))
    assert read_energy_run(path) == run
    with pytest.raises(MissingFile):
        read_energy_run(tmp_path / "none.json")
    path.write_text(json.dumps({"kind": "other"}))
    with pytest.raises(InputError, match="is no run of `headgate mlperf energy"):
        read_energy_run(path)


def test_a_data_set_of_mlperf_tiny(tmp_path: Path) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    for index, image in enumerate(pixels):
        (tmp_path / f"i{index}.bin").write_bytes(image.tobytes())
    labels = tmp_path / "y_labels.csv"
    labels.write_text("i1.bin,10,3\ni0.bin,10,7\n")
    images, classes = read_labelled(tmp_path, (3, 2, 2))
    np.testing.assert_array_equal(images, pixels[::-1])
    assert classes.tolist() == [3, 7]
    with pytest.raises(DataError, match=r"i1.bin has 12 bytes, an image of the network 27"):
        read_labelled(tmp_path, (3, 3, 3))
    labels.write_text("i2.bin,10,3\n")
    with pytest.raises(MissingFile, match=r"lists i2.bin"):
        read_labelled(tmp_path, (3, 2, 2))
    labels.write_text("i1.bin,3\n")
    with pytest.raises(DataError, match=r"line 1: 'i1.bin,3' is not a file"):
        read_labelled(tmp_path, (3, 2, 2))
