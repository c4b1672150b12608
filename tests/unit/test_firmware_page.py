"""The report page of networks in firmware: counts, ratios of them, flash and RAM."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from pathlib import Path

import pytest

from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.firmware import Firmware, total_bytes
from headgate.device.agent.latency import Latency
from headgate.device.agent.report import Report
from headgate.profiling.machines import boards_of
from headgate.profiling.report import Page, build_report, render_html
from headgate.profiling.report_csv import csv_tables
from headgate.profiling.views.layers import counts_of, rows_of
from tests import agent_reports
from tests.page_structure import page_faults

COUNTS = {"dense": [300.0, 2400.0, 300.0], "gated": [300.0, 50.0, 1250.0, 200.0]}
STACK = NotMeasured("it takes a run")


def in_firmware(root: Path, kind: str) -> Report:
    """A board's report as if QEMU had counted; MACs are those of the gated layer's halves."""
    (report,) = agent_reports.decoded(
        [agent_reports.agent_report(root / kind, kind, name=kind, energy=False)]
    )
    layers = COUNTS[kind]
    found = Firmware(
        unit="instructions",
        counter="SysTick",
        tick=40.0,
        clock_hz=NotMeasured("under QEMU an instruction is a nanosecond"),
        count=sum(layers),
        counts=[sum(layers) + step for step in (-2, -1, 0, 1, 2)],
        layer_counts=layers,
        flash_bytes={"code": 20_000, "weights": 70_000},
        ram_bytes={"arena": 50_000, "stack": 300 if kind == "dense" else STACK},
        memory_bytes={"flash": 2 << 20, "RAM": 640 << 10},
    )
    report = agent_reports.emulated(report, "qemu:cortex-m4")
    return dataclasses.replace(report, firmware=found)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    root = tmp_path_factory.mktemp("reports")
    return build_report("Firmware", profiles=[in_firmware(root, kind) for kind in COUNTS])


def test_ratios_are_of_counts(page: Page) -> None:
    (board,) = boards_of(page.reports)
    dense, gated = board.entries
    assert isinstance(dense.fewer, NotMeasured)
    assert gated.fewer == pytest.approx(3000 / 1800)
    assert gated.count_realised == pytest.approx(0.4 / gated.macs_saved)


def test_counts_of_a_gates_steps_stand_together(page: Page) -> None:
    report = page.reports[1]
    assert isinstance(report.latency, Latency)
    steps = [dataclasses.replace(report.latency.layers[1], name=f"block.conv2.{n}") for n in "ab"]
    layers = [report.latency.layers[0], *steps, *report.latency.layers[2:]]
    assert isinstance(report.firmware, Firmware)
    firmware = dataclasses.replace(report.firmware, layer_counts=[300.0, 20.0, 30.0, 1250.0, 200.0])
    assert [one.name for one in rows_of(layers)][1] == "gate of block.conv2"
    assert counts_of(layers, firmware) == [300, 50, 1250, 200]
    assert counts_of(layers, NotMeasured("no firmware")) == [None] * 4


def test_the_page(page: Page) -> None:
    html = render_html(page)
    assert page_faults(html) == []
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))
    assert "qemu:cortex-m4: instructions, flash and RAM" in text
    assert "1.67x fewer instructions" in text  # the tile
    assert "90,000 of 2,097,152 code 20,000 weights 70,000" in text
    assert "50,300 of 655,360 arena 50,000 stack 300" in text
    assert "not measured: stack: it takes a run" in html
    assert "Instructions MACs, executed of dense" in text
    assert "1.92x" in text  # 2400 / 1250, of the gated layer
    assert "in ticks of 40: median over the inputs" in text
    assert "Executed instructions" not in text and "Isolated CPUs" not in text


def test_the_csv(page: Page) -> None:
    tables = csv_tables(page)
    dense, gated = csv.DictReader(io.StringIO(tables[""]))
    assert (dense["count_unit"], dense["median_count"]) == ("instructions", "3000.0")
    assert (dense["flash_bytes"], dense["ram_bytes"], dense["fewer"]) == ("90000", "50300", "")
    assert float(gated["fewer"]) == pytest.approx(3000 / 1800) and gated["ram_bytes"] == ""
    layers = list(csv.DictReader(io.StringIO(tables["-layers"])))
    assert [row["median_count"] for row in layers if row["input"] == "0"] == [
        str(one) for kind in COUNTS for one in COUNTS[kind]
    ]


def test_a_sum_lacks_what_a_part_lacks() -> None:
    assert total_bytes({"a": 1, "b": 2}) == 3
    assert total_bytes({"a": 1, "b": STACK}) == NotMeasured("b: it takes a run")
    assert total_bytes(STACK) == STACK
