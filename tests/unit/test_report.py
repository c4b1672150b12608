from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.errors import StorageError
from headgate.profiling import Contestant, compare
from headgate.profiling.absent import NotMeasured
from headgate.profiling.charts import activity_strip, histogram
from headgate.profiling.charts.cells import STRIP_COLUMNS
from headgate.profiling.instructions import InstructionCount
from headgate.profiling.layer_view import with_gates_summed
from headgate.profiling.profile import profile_source
from headgate.profiling.report import build_report, render_html, write_report
from headgate.profiling.report_csv import render_layers_csv, render_standings_csv
from headgate.profiling.source import Source
from headgate.profiling.units import macs, microseconds, percent, times
from tests import fake_bundle
from tests.fake_program import ScriptedProgram
from tests.page_structure import page_faults

NASTY = 'block."<script>alert(1)</script>"'
COUNT = InstructionCount(96, 5000, 48, 96, True, "qemu:rpi4", "cortex-a72", "qemu-aarch64 7.2")


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    """A report of a dense and a gated network, and of one under emulation."""
    images = fake_bundle.images(3)
    layers = fake_bundle.manifest()["layers"]
    layers[1]["name"] = NASTY
    plain = [{**layers[1], "out_gate": None, "operator": "conv2d"}]
    dense = ScriptedProgram(lambda run: 100.0 + run % 5, gates=[], layers=plain)
    gated = ScriptedProgram(lambda run: 60.0 + run % 5, active=1, layers=layers)
    emulated = ScriptedProgram(lambda run: 1.0, machine="qemu:rpi4", layers=layers)
    none = NotMeasured("counted for emulated machines only")
    comparison = compare(
        [
            Contestant("dense", dense, "dense", "aa", dense_macs=96),
            Contestant("gated <b>", gated, "gated", "bb", dense_macs=96),
        ],
        images=images,
        rounds=6,
    )
    profiles = [
        profile_source(Source("dense", "aa", dense), images, 3, none),
        profile_source(Source("gated <b>", "bb", gated), images, 3, none),
        profile_source(Source("gated-rpi4", "cc", emulated), images, 3, COUNT),
    ]
    commands = ["headgate compare a.hgb b.hgb && echo done"]
    report = build_report("A & B", comparison=comparison, profiles=profiles, reproduce=commands)
    return dict(json.loads(json.dumps(report)))


def test_page_is_whole_and_stands_alone(data: dict[str, Any]) -> None:
    page = render_html(data)
    assert page_faults(page) == []


def test_page_is_a_function_of_the_json(data: dict[str, Any], tmp_path: Path) -> None:
    written = write_report(tmp_path / "report.html", data)
    again = json.loads((tmp_path / "report.json").read_text())
    assert again == data
    assert render_html(again) == written[0].read_text()


def test_names_cannot_smuggle_markup(data: dict[str, Any]) -> None:
    page = render_html(data)
    assert "<script" not in page
    assert "gated <b>" not in page
    assert "gated &lt;b&gt;" in page
    assert "A &amp; B" in page


def test_page_says_what_was_found(data: dict[str, Any]) -> None:
    page = render_html(data)
    speedup = data["comparison"]["standings"][1]["speedup"]["median"]
    assert f"{speedup:.2f}x" in page
    assert "headgate compare a.hgb b.hgb &amp;&amp; echo done" in page
    assert "Times are not measured: the wall time of an emulator" in page
    assert "1 of 4" in page  # active channels
    assert "2.000" in page  # instructions per MAC
    assert "not measured: no zone in /sys/class/thermal" in page or "Temperature" in page


def test_parts_that_are_absent_are_left_out() -> None:
    page = render_html(build_report("Empty"))
    assert "Verdict" not in page
    assert "Layers of" not in page


def test_standings_csv(data: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(render_standings_csv(data))))
    assert [row["name"] for row in rows] == ["dense", "gated <b>"]
    assert rows[0]["realised"] == ""  # nothing saved, so nothing to realise
    assert float(rows[1]["arithmetic_speedup"]) == pytest.approx(96 / 40)
    assert float(rows[1]["median_us"]) == pytest.approx(62, abs=2)


def test_layers_csv(data: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(render_layers_csv(data))))
    assert len(rows) == 5
    gated = [row for row in rows if row["network"] == "gated <b>"]
    assert [row["is_gate"] for row in gated] == ["True", "False"]
    assert gated[1]["layer"] == NASTY
    assert float(gated[1]["active_channels_mean"]) == 1
    emulated = [row for row in rows if row["network"] == "gated-rpi4"]
    assert emulated[1]["time_us"] == ""


def test_a_report_that_cannot_be_written_is_a_storage_error(
    data: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(StorageError):
        write_report(tmp_path / "no" / "folder" / "report.html", data)


def test_activity_strip_averages_what_does_not_fit() -> None:
    few = activity_strip([0, 2, 4], 4)
    assert few.count('class="cell"') == 3
    heights = re.findall(r'class="cell"[^>]* height="([^"]+)"', few)
    assert [float(height) for height in heights] == [0, 9, 18]
    assert "image 1: 2 of 4 channels" in few
    assert activity_strip([3] * 1000, 4).count('class="cell"') == STRIP_COLUMNS


def test_steps_of_a_gate_are_one_row(data: dict[str, Any]) -> None:
    profile = json.loads(json.dumps(data["profiles"][1]))
    gate, conv = profile["layers"]
    steps = [
        {**gate, "name": f"{conv['name']}.predictor", "time_us": 2.0, "done_macs": 10},
        {**gate, "name": conv["name"], "time_us": 3.0, "done_macs": 0},
        {**gate, "name": "lv7", "operator": "merge_lists", "time_us": 0.5, "done_macs": 0},
    ]
    rows = with_gates_summed([*steps, conv])
    names = [row["name"] for row in rows]
    assert names == [f"gate of {conv['name']}", "lists of active channels", conv["name"]]
    assert [row["time_us"] for row in rows[:2]] == [5.0, 0.5]
    assert rows[0]["done_macs"] == 10


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=60))
def test_histogram_draws_inside_its_box(values: list[float]) -> None:
    start, end = min(values) - 1, max(values) + 1
    drawing = histogram(values, start, end, values[0], "dense", "runs")
    for x in re.findall(r'<rect[^>]* x="([^"]+)"', drawing):
        assert 0 <= float(x) < 200
    for height in re.findall(r'<rect[^>]* height="([^"]+)"', drawing):
        assert 0 < float(height) <= 44


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (microseconds(0.1124), "0.112 µs"),
        (microseconds(112.4), "112 µs"),
        (microseconds(1302.0), "1.30 ms"),
        (microseconds(14_530.0), "14.5 ms"),
        (microseconds(2.5e6), "2.50 s"),
        (macs(174_300_000), "174 M"),
        (macs(999_960), "1.00 M"),
        (macs(640), "640"),
        (times(2.308), "2.31x"),
        (percent(0.834), "83 %"),
        (percent({"not_measured": "why"}), "not measured"),
    ],
)
def test_numbers_read_well(text: str, expected: str) -> None:
    assert text == expected


def test_faults_of_a_page_are_found() -> None:
    assert page_faults('<p><a href="#"></a></p>') == ["a refers to #"]
    assert page_faults("<p><b></p></b>") == ["</p> closes nothing", "</b> closes nothing"]
    assert page_faults("<p>") == ["<p> is never closed"]
    assert page_faults('<img src="data:image/png;base64,AA==">') == [
        "a picture without an alternative"
    ]
    assert page_faults("<svg><rect/><path><title>t</title></path></svg><br>") == []
    assert page_faults("<script></script>") == ["a script"]
