from __future__ import annotations

import csv
import dataclasses
import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.device.agent.report import InstructionCount, Report
from headgate.errors import StorageError
from headgate.profiling import Contestant, compare
from headgate.profiling.charts.cells import STRIP_COLUMNS, activity_strip, histogram
from headgate.profiling.report import Page, build_report, read_page, render_html, write_report
from headgate.profiling.report_csv import csv_tables
from headgate.profiling.units import macs, microseconds, percent, times
from headgate.profiling.views.layers import rows_of
from tests import agent_reports, fake_bundle
from tests.agent_reports import INPUTS, agent_report
from tests.fake_program import ScriptedProgram
from tests.page_structure import page_faults

NASTY = 'block."<script>alert(1)</script>"'
COUNT = InstructionCount(96, 5000, 48, 96, True, "qemu:rpi4", "cortex-a72", "qemu-aarch64 7.2")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Of a dense and a gated network on this machine, and of one under emulation."""
    layers = fake_bundle.manifest()["layers"]
    plain = [{**layers[1], "out_gate": None, "operator": "conv2d"}]
    dense = ScriptedProgram(lambda run: 100.0 + run % 5, gates=[], layers=plain)
    gated = ScriptedProgram(lambda run: 60.0 + run % 5, active=1, layers=layers)
    comparison = compare(
        [
            Contestant("dense", dense, "dense", "aa", dense_macs=96),
            Contestant("gated <b>", gated, "gated", "bb", dense_macs=96),
        ],
        images=fake_bundle.images(3),
        rounds=6,
    )
    root = tmp_path_factory.mktemp("reports")
    profiles = [measured(root, "dense", "dense"), measured(root, "gated <b>", "gated")]
    without_times = agent_reports.emulated(measured(root, "gated-rpi4", "gated"), "qemu:rpi4")
    profiles.append(dataclasses.replace(without_times, instructions=COUNT))
    commands = ["headgate compare a.hgb b.hgb && echo done"]
    return build_report("A & B", comparison=comparison, profiles=profiles, reproduce=commands)


def measured(root: Path, name: str, kind: str) -> Report:
    """What the agent found out on this machine; its large layer has a nasty name."""
    report = agent_report(root / name, kind, name=name, energy=False)
    for layer in report["latency"]["layers"]:
        layer["name"] = layer["name"].replace("block.conv2", NASTY)
    (decoded,) = agent_reports.decoded([report | {"machine": "host"}])
    return decoded


def test_page_is_whole_and_stands_alone(page: Page) -> None:
    assert page_faults(render_html(page)) == []


def test_page_is_a_function_of_the_json(page: Page, tmp_path: Path) -> None:
    written = write_report(tmp_path / "report.html", page)
    again = read_page(tmp_path / "report.json")
    assert isinstance(again, Page)
    assert again == page
    assert render_html(again) == written[0].read_text()


def test_names_cannot_smuggle_markup(page: Page) -> None:
    html = render_html(page)
    assert "<script" not in html
    assert "gated <b>" not in html
    assert "gated &lt;b&gt;" in html
    assert "A &amp; B" in html


def test_page_says_what_was_found(page: Page) -> None:
    html = render_html(page)
    assert page.comparison is not None
    speedup = page.comparison.standings[1].speedup.median
    assert f"{speedup:.2f}x" in html
    assert "headgate compare a.hgb b.hgb &amp;&amp; echo done" in html
    assert "Times are not measured: the wall time of an emulator" in html
    assert "16.0 of 32" in html  # active channels
    assert "2.000" in html  # instructions per MAC
    assert "not measured: no zone in /sys/class/thermal" in html or "Temperature" in html


def test_parts_that_are_absent_are_left_out() -> None:
    html = render_html(build_report("Empty"))
    assert "Verdict" not in html
    assert "layers of" not in html


def test_csv_has_a_line_for_every_program_in_turn_and_alone(page: Page) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_tables(page)[""])))
    assert [row["network"] for row in rows[:2]] == ["dense", "gated <b>"]
    assert [row["timed"] for row in rows] == ["in turn"] * 2 + ["alone"] * 3
    assert rows[0]["realised"] == ""  # nothing saved, so nothing to realise
    assert float(rows[1]["arithmetic_speedup"]) == pytest.approx(96 / 40)
    assert float(rows[1]["median_us"]) == pytest.approx(62, abs=2)
    assert float(rows[3]["speedup"]) > 1.5
    assert rows[4]["median_us"] == "" and rows[4]["machine"] == "qemu:rpi4"


def test_layers_csv(page: Page) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_tables(page)["-layers"])))
    gated = [row for row in rows if row["network"] == "gated <b>" and row["input"] == "0"]
    assert [row["is_gate"] for row in gated] == ["False", "True", "False", "False"]
    assert gated[2]["layer"] == NASTY
    assert float(gated[2]["active_outputs"]) == 14
    emulated = [row for row in rows if row["machine"] == "qemu:rpi4"]
    assert emulated and not any(row["median_us"] for row in emulated)


def test_a_report_that_cannot_be_written_is_a_storage_error(page: Page, tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        write_report(tmp_path / "no" / "folder" / "report.html", page)


def test_activity_strip_averages_what_does_not_fit() -> None:
    few = activity_strip([0, 2, 4], 4)
    assert few.count('class="cell"') == 3
    heights = re.findall(r'class="cell"[^>]* height="([^"]+)"', few)
    assert [float(height) for height in heights] == [0, 9, 18]
    assert "image 1: 2 of 4 channels" in few
    assert activity_strip([3] * 1000, 4).count('class="cell"') == STRIP_COLUMNS


def test_steps_of_a_gate_are_one_row(page: Page) -> None:
    _, gate, conv, _ = page.reports[1].latency.layers
    steps = [
        dataclasses.replace(
            gate, name=f"{conv.name}.predictor", median_us=2.0, executed_macs=[10] * INPUTS
        ),
        dataclasses.replace(gate, name=conv.name, median_us=3.0, executed_macs=[0] * INPUTS),
        dataclasses.replace(
            gate, name="lv7", operator="merge_lists", median_us=0.5, executed_macs=[0] * INPUTS
        ),
    ]
    rows = rows_of([*steps, conv])
    names = [row.name for row in rows]
    assert names == [f"gate of {conv.name}", "lists of active channels", conv.name]
    assert [row.median_us for row in rows[:2]] == [5.0, 0.5]
    assert rows[0].mean_macs == 10


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
