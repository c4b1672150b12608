from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from headgate.cli.compare import print_comparison
from headgate.device.agent.absent import NotMeasured
from headgate.errors import UsageError
from headgate.profiling import Comparison, Contestant, compare
from headgate.profiling.report import build_report, render_html
from headgate.profiling.report_csv import csv_tables
from tests import fake_bundle
from tests.fake_program import ScriptedProgram

IMAGES = fake_bundle.images(2)


class FakePeer:
    """Answers like the fake network, in constant time."""

    def __init__(self, latency_us: float, wrong: bool = False) -> None:
        self.latency_us = latency_us
        self.wrong = wrong

    def run(self, array: np.ndarray) -> np.ndarray:
        outputs = fake_bundle.expected(array)
        return -outputs if self.wrong else outputs

    def time(self, array: np.ndarray, repeat: int, warmup: int) -> np.ndarray:
        return np.full((len(array), repeat), self.latency_us)


def dense(latency_us: float = 100.0) -> Contestant:
    layers = [{**layer, "out_gate": None} for layer in fake_bundle.manifest()["layers"][1:]]
    program = ScriptedProgram(lambda run: latency_us, gates=[], layers=layers)
    return Contestant("dense", program, "dense", "aa", dense_macs=96)


def gated(latency_us: float, active: int = 2) -> Contestant:
    program = ScriptedProgram(lambda run: latency_us, active=active)
    return Contestant("gated", program, "gated", "bb", dense_macs=96)


def peer(latency_us: float, wrong: bool = False) -> Contestant:
    return Contestant("peer", FakePeer(latency_us, wrong), "peer", "cc")


def test_realised_is_time_saved_over_arithmetic_saved() -> None:
    # 1 of 4 channels: 24 MACs and 16 of the gate, so 56 of 96 saved; 50 of 100 us saved.
    result = compare([dense(100.0), gated(50.0, active=1)], images=IMAGES, rounds=6)
    one = result["gated"]
    assert one.speedup.median == pytest.approx(2.0)
    assert one.arithmetic_speedup == pytest.approx(96 / 40)
    assert one.macs_saved == pytest.approx(56 / 96)
    assert one.time_saved == pytest.approx(0.5)
    assert one.realised.median == pytest.approx(0.5 / (56 / 96))
    assert "Realised = time saved / MACs saved" in result.mac_convention


def test_a_slower_gated_network_has_negative_savings() -> None:
    one = compare([dense(100.0), gated(125.0, active=1)], images=IMAGES, rounds=6)["gated"]
    assert one.time_saved == pytest.approx(-0.25)
    assert one.realised.median < 0


def test_nothing_saved_is_nothing_to_realise() -> None:
    result = compare([dense(), gated(100.0, active=4)], images=IMAGES, rounds=6)
    assert isinstance(result["gated"].realised, NotMeasured)
    assert result["gated"].macs_saved < 0  # every channel, and the gate on top
    assert isinstance(result["dense"].realised, NotMeasured)


def test_common_drift_cancels_in_the_ratio() -> None:
    """A machine that slows down by half during the run changes no ratio."""
    clock = {"turn": 0}

    def slowing(base_us: float):
        def latency_us(run: int) -> float:
            clock["turn"] += 1
            return base_us * (1 + clock["turn"] / 800)

        return latency_us

    first, second = dense(), gated(0.0)
    first.program.latency_us = slowing(100.0)
    second.program.latency_us = slowing(50.0)
    result = compare([first, second], images=IMAGES, rounds=30)
    assert result["gated"].speedup.median == pytest.approx(2.0, rel=0.03)
    assert any("dense: the last third" in line for line in result.warnings)


def test_rounds_start_with_another_contestant_each() -> None:
    order: list[str] = []
    entries = [dense(), gated(50.0)]
    for entry in entries:
        entry.program.latency_us = lambda run, name=entry.name: order.append(name) or 100.0
    compare(entries, images=IMAGES[:1], rounds=4)
    timed = order[2:]  # after one run of each for the outputs
    starts = [timed[index] for index in range(0, len(timed), 6)]
    assert starts == ["dense", "gated", "dense", "gated"]


def test_baseline_is_the_first_dense_bundle_unless_named() -> None:
    entries = [gated(50.0), peer(80.0), dense(100.0)]
    assert compare(entries, images=IMAGES, rounds=5).baseline == "dense"
    named = compare(entries, images=IMAGES, rounds=5, baseline="peer")
    assert named["gated"].speedup.median == pytest.approx(1.6)
    assert isinstance(named["gated"].macs_saved, NotMeasured)
    with pytest.raises(UsageError, match="Did you mean 'peer'"):
        compare(entries, images=IMAGES, rounds=5, baseline="pear")


def test_peer_that_computes_something_else_is_a_warning() -> None:
    result = compare([dense(), peer(80.0, wrong=True)], images=IMAGES, rounds=5)
    assert result["peer"].top1_agreement < 1
    assert any("is it the same network?" in line for line in result.warnings)
    assert result["peer"].executed_macs == NotMeasured("a peer counts no MACs")


def int8(one: Contestant) -> Contestant:
    return dataclasses.replace(one, name=f"{one.name}-int8", dtype="int8")


def test_realised_is_against_the_dense_network_of_the_same_dtype() -> None:
    entries = [dense(100.0), int8(dense(40.0)), int8(gated(20.0, active=1))]
    result = compare(entries, images=IMAGES, rounds=5)
    assert [one.dtype for one in result.standings] == ["float32", "int8", "int8"]
    one = result["gated-int8"]
    assert one.speedup.median == pytest.approx(5.0)  # against the baseline, in float32
    assert one.realised.median == pytest.approx(0.5 / (56 / 96))
    assert isinstance(result["dense-int8"].realised, NotMeasured)


def test_without_a_dense_network_of_that_dtype_nothing_is_realised() -> None:
    one = compare([dense(), int8(gated(20.0, active=1))], images=IMAGES, rounds=5)["gated-int8"]
    assert one.realised == NotMeasured("no dense int8 bundle is beside it")
    assert one.macs_saved == pytest.approx(56 / 96)


@pytest.mark.parametrize("which", [0, 1])
def test_another_dtype_may_name_another_class_at_times(which: int) -> None:
    images = fake_bundle.images(40)
    wrong = {25: [3], 30: [3, 9, 14, 20, 26, 31]}

    def run(array: np.ndarray, of: list[int]) -> np.ndarray:
        outputs = fake_bundle.expected(array)
        outputs[of] *= -1
        return outputs

    def warns(of: list[int], *entries: Contestant) -> bool:
        entries[1].program.run = lambda array: run(array, of)
        found = compare(entries, images=images, rounds=5)
        return any("is it the same network?" in line for line in found.warnings)

    entries = [dense(), peer(80.0)]
    assert warns(wrong[25], *entries)
    entries[which] = int8(entries[which])
    assert not warns(wrong[25], *entries)
    assert warns(wrong[30], *entries)


def test_rows_say_the_dtype_where_it_is_not_float32_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_comparison(compare([dense(), gated(50.0)], images=IMAGES, rounds=5))
    assert "dtype" not in capsys.readouterr().out
    print_comparison(compare([dense(), int8(dense(50.0))], images=IMAGES, rounds=5))
    out = capsys.readouterr().out
    assert "name         dtype " in out and "dense-int8   int8 " in out
    assert "against dense of the same dtype" in out


def test_page_and_csv_say_the_dtype() -> None:
    page = build_report("", comparison=compare([dense(), int8(dense(50.0))], images=IMAGES))
    assert render_html(page).count('<span class="tag">int8</span>') == 1
    lines = csv_tables(page)[""].splitlines()
    assert [line.rsplit(",", 1)[1] for line in lines] == ["dtype", "float32", "int8"]


def test_accuracy_recorded_and_on_the_images() -> None:
    labels = fake_bundle.expected(IMAGES).argmax(axis=1)
    labels[0] = (labels[0] + 1) % 4
    result = compare(
        [dense(), gated(50.0)], images=IMAGES, labels=labels, accuracies={"gated": 0.87}, rounds=5
    )
    assert result["gated"].accuracy == 0.87
    assert isinstance(result["dense"].accuracy, NotMeasured)
    assert result["dense"].accuracy_on_images == 0.5


def test_comparison_is_json() -> None:
    result: Comparison = compare([dense(), gated(50.0)], images=IMAGES, rounds=5)
    data = json.loads(json.dumps(result.to_json()))
    assert data["standings"][1]["speedup"]["median"] == pytest.approx(2.0)
    assert [one["sha256"] for one in data["standings"]] == ["aa", "bb"]


@pytest.mark.parametrize("entries", [[], [dense(), dense()]])
def test_nothing_or_twice_the_same_is_a_usage_error(entries: list[Contestant]) -> None:
    with pytest.raises(UsageError):
        compare(entries, images=IMAGES)


def test_file_of_a_peer_that_is_not_there(tmp_path: Path) -> None:
    from headgate.errors import MissingFile, ToolMissing

    with pytest.raises((MissingFile, ToolMissing)):
        compare([dense(), tmp_path / "none.onnx"], images=IMAGES)
