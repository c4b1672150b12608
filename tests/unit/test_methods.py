"""The comparison of methods: its rows, its table, its plots, from measurements that are made up."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from bench.methods import __main__ as command
from bench.methods import data, networks, table
from bench.methods.measure import Findings, _accuracy_warnings, _loss_warnings, make_rows
from bench.methods.networks import (
    HEADGATE,
    HEADGATE_INT8,
    ONNX_INT8,
    TFLITE_FP32,
    TFLITE_INT8,
    Entry,
)
from bench.publish import publish, with_earlier
from headgate.device.agent.absent import NotMeasured
from headgate.errors import DataError, ToolMissing, UsageError
from headgate.profiling import Comparison, Contestant, Standing, compare
from headgate.profiling.effort import Effort, measure_effort
from headgate.profiling.method_row import Row
from headgate.profiling.report import build_report, render_html
from headgate.profiling.report_csv import csv_tables
from headgate.profiling.views.plots import trade_offs
from tests import fake_bundle
from tests.fake_program import ScriptedProgram
from tests.page_structure import page_faults

IMAGES = fake_bundle.images(24)
CONV = {**fake_bundle.manifest()["layers"][1], "out_gate": None, "in_gate": None}
WHOLE = [{**CONV, "dense_macs": 96, "operator": "conv2d"}]
PRUNED = [{**CONV, "dense_macs": 48, "macs_per_pair": 3, "operator": "conv2d"}]


class FakePeer:
    def __init__(self, latency_us: float) -> None:
        self.latency_us = latency_us

    def run(self, array: Any) -> Any:
        return fake_bundle.expected(array)

    def time(self, array: Any, repeat: int, warmup: int) -> Any:
        return [self.latency_us] * repeat


def entry(
    checkpoint: str, method: str, program: str, accuracy: float, counted: int | None = None
) -> Entry:
    name = checkpoint if program == HEADGATE else f"{checkpoint} ({program})"
    return Entry(name, checkpoint, method, program, "file", accuracy, 10_000, counted)


ENTRIES = [
    entry("net", "dense", HEADGATE, 0.90),
    entry("net", "dense", TFLITE_FP32, 0.90),
    entry("net", "dense", TFLITE_INT8, 0.90),
    entry("net-frs-0.5", "frs", HEADGATE, 0.88),
    entry("net-frs-0.5", "frs", TFLITE_FP32, 0.88),
    entry("net-fbs-0.5", "fbs", HEADGATE, 0.89, counted=30),
    entry("net", "dense", HEADGATE_INT8, 0.90),
    entry("net", "dense", ONNX_INT8, 0.90),
    entry("net-fbs-0.5", "fbs", HEADGATE_INT8, 0.89, counted=30),
]


@pytest.fixture(scope="module")
def measured() -> tuple[Comparison, dict[str, Effort]]:
    programs = {
        "net": ScriptedProgram(lambda run: 100.0, gates=[], layers=WHOLE),
        "net-frs-0.5": ScriptedProgram(lambda run: 60.0, gates=[], layers=PRUNED),
        "net-fbs-0.5": ScriptedProgram(lambda run: 70.0, active=1),
        "net (headgate int8)": ScriptedProgram(lambda run: 50.0, gates=[], layers=WHOLE),
        "net-fbs-0.5 (headgate int8)": ScriptedProgram(lambda run: 25.0, active=1),
    }
    contestants = []
    for one in ENTRIES:
        dtype = "int8" if one.program.endswith("int8") else "float32"
        if one.is_bundle:
            kind = "gated" if one.method == "fbs" else "dense"
            program = programs[one.name]
            contestants.append(
                Contestant(one.name, program, kind, "aa", dense_macs=96, dtype=dtype)
            )
        else:
            latency = 200.0 if one.checkpoint == "net" else 110.0
            contestants.append(Contestant(one.name, FakePeer(latency), "peer", "bb", dtype=dtype))
    comparison = compare(contestants, images=IMAGES[:2], rounds=5)
    efforts = {name: measure_effort(name, one, IMAGES) for name, one in programs.items()}
    return comparison, efforts


@pytest.fixture(scope="module")
def rows(measured: tuple[Comparison, dict[str, Effort]]) -> list[Row]:
    comparison, efforts = measured
    accuracies = dict.fromkeys((one.name for one in ENTRIES), 0.87)
    sizes = {one.name: (1000 * (index + 1), 9000) for index, one in enumerate(ENTRIES)}
    return make_rows("net", ENTRIES, comparison, efforts, accuracies, sizes)


@pytest.fixture(scope="module")
def results(rows: list[Row], measured: tuple[Comparison, dict[str, Effort]]) -> dict[str, Any]:
    comparison, efforts = measured
    findings = Findings(rows, comparison, [efforts["net-fbs-0.5"]], [], 10_000, [])
    return {
        "schema": 1,
        "networks": {"net": command._results(findings, {"net (ncnn)": "not installed"})},
    }


def by_name(rows: list[Row]) -> dict[str, Row]:
    return {row.name: row for row in rows}


def test_arithmetic_is_that_of_the_network_whatever_runs_it(rows: list[Row]) -> None:
    found = by_name(rows)
    assert found["net"].macs.mean == found["net (TFLite int8)"].macs.mean == 96
    assert found["net-frs-0.5"].macs.mean == found["net-frs-0.5 (TFLite fp32)"].macs.mean == 48
    assert found["net-frs-0.5"].fewer == 2.0
    assert found["net-fbs-0.5"].macs.mean == 40  # 24 and 16 of the gate
    assert all(row.dense_macs == 96 for row in rows)


def test_realised_is_against_the_dense_network_in_the_same_program(rows: list[Row]) -> None:
    found = by_name(rows)
    assert found["net-frs-0.5"].realised == pytest.approx(0.4 / 0.5)
    assert found["net-frs-0.5 (TFLite fp32)"].realised == pytest.approx(0.45 / 0.5)
    assert found["net-fbs-0.5"].realised == pytest.approx(0.3 / (56 / 96))
    assert isinstance(found["net"].realised, NotMeasured)
    assert found["net-fbs-0.5 (headgate int8)"].realised == pytest.approx(0.5 / (56 / 96))
    assert found["net-fbs-0.5 (headgate int8)"].speedup.median == pytest.approx(4.0)
    # but its speed-up is against the dense network in headgate
    assert found["net-frs-0.5 (TFLite fp32)"].speedup.median == pytest.approx(100 / 110)


def test_without_the_dense_network_in_tflite_nothing_is_realised(
    measured: tuple[Comparison, dict[str, Effort]],
) -> None:
    comparison, efforts = measured
    entries = [one for one in ENTRIES if one.name != "net (TFLite fp32)"]
    accuracies = dict.fromkeys((one.name for one in entries), 0.9)
    sizes = dict.fromkeys((one.name for one in entries), (1, 1))
    found = by_name(make_rows("net", entries, comparison, efforts, accuracies, sizes))
    assert isinstance(found["net-frs-0.5 (TFLite fp32)"].realised, NotMeasured)


def test_accuracy_is_the_trainings_in_float32_and_measured_otherwise(rows: list[Row]) -> None:
    found = by_name(rows)
    assert found["net-fbs-0.5 (headgate int8)"].accuracy == 0.87
    assert found["net-fbs-0.5 (headgate int8)"].accuracy_source == "this program, here"
    assert (found["net"].accuracy, found["net"].accuracy_source) == (0.90, "training")
    assert found["net (TFLite int8)"].accuracy == 0.87
    assert found["net (TFLite int8)"].accuracy_images == 24


def test_bundle_that_classifies_otherwise_than_its_training_is_a_warning(rows: list[Row]) -> None:
    assert len(_accuracy_warnings(rows, 10_000)) == 3
    assert "the bundle classifies 87.00%" in _accuracy_warnings(rows, 10_000)[0]
    assert _accuracy_warnings(rows, 200) == []  # too few images to say


def test_int8_that_loses_more_than_half_a_point_is_a_warning(rows: list[Row]) -> None:
    assert _loss_warnings(rows) == []

    def worse(row: Row, accuracy: float) -> Row:
        is_int8 = row.program == HEADGATE_INT8 and row.method == "fbs"
        return dataclasses.replace(row, bundle_accuracy=accuracy) if is_int8 else row

    assert _loss_warnings([worse(row, 0.866) for row in rows]) == []
    (line,) = _loss_warnings([worse(row, 0.86) for row in rows])
    assert line == "net-fbs-0.5 (headgate int8): 86.00% of the images, in float32 87.00%"


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table(results: dict[str, Any]) -> None:
    lines = table.render(results).splitlines()
    found = [dict(zip(cells(lines[0]), cells(line), strict=True)) for line in lines[2:11]]
    assert [row["runs in"] for row in found][:3] == ["headgate", "TFLite fp32", "TFLite int8"]
    assert found[0]["accuracy"] == "90.00 %"
    assert found[1]["accuracy"] == "87.00 % *"
    assert found[3]["method"] == "pruned by feature relevance"
    assert found[3]["fewer"] == "2.00x"
    assert found[3]["speed-up"] == "**1.67x**"
    assert found[3]["realised"] == "0.80"
    assert found[0]["realised"] == ""
    assert found[8]["speed-up"] == "**4.00x**" and found[8]["accuracy"] == "87.00 % *"
    assert found[5]["p95, most"] == "same"
    assert found[5]["MACs"] == "40 (30 by pixel)"
    assert found[3]["MACs"] == "48"
    assert "* on 24 test images only." in lines[-1]
    assert "Not measured: net (ncnn)." in lines[-1]


def test_results_are_json_without_single_runs_or_pictures(results: dict[str, Any]) -> None:
    text = json.dumps(results)
    assert "latencies_us" not in text and "data:image" not in text
    assert results["networks"]["net"]["work_per_image"][0]["name"] == "net-fbs-0.5"


def test_plots_leave_out_accuracies_of_few_images(rows: list[Row]) -> None:
    plots = trade_offs(build_report("", methods=rows))
    assert [plot["title"] for plot in plots] == [
        "Accuracy against arithmetic",
        "Accuracy against time",
    ]
    assert "of 3 networks. On the Pareto front: net-fbs-0.5, net." in plots[0]["drawing"]
    assert "TFLite" not in plots[1]["drawing"]


def test_plots_of_all_programs(rows: list[Row]) -> None:
    known = [dataclasses.replace(row, accuracy_images=10_000) for row in rows]
    arithmetic, latency = trade_offs(build_report("", methods=known))
    assert "of 3 networks" in arithmetic["drawing"]
    assert "of 9 networks" in latency["drawing"]
    assert [name for _, name in latency["programs"]] == [
        HEADGATE,
        HEADGATE_INT8,
        TFLITE_FP32,
        f"{TFLITE_INT8}, {ONNX_INT8}",
    ]
    assert arithmetic["programs"] == []
    assert latency["front"] == "net-fbs-0.5 (headgate int8), net-frs-0.5, net-fbs-0.5, net"
    assert latency["drawing"].count('class="core"') == 2
    assert latency["drawing"].count('class="dot"') == 2
    for label in ("dense", "dense, ONNX Runtime", "frs-0.5, TFLite", "fbs-0.5"):
        assert f">{label}</text>" in latency["drawing"]


def test_plots_need_two_networks() -> None:
    assert trade_offs(build_report("")) == []


def test_plots_of_a_plain_comparison(measured: tuple[Comparison, dict[str, Effort]]) -> None:
    def plots_of(*standings: Standing) -> list[dict[str, Any]]:
        comparison = dataclasses.replace(measured[0], standings=list(standings))
        return trade_offs(build_report("", comparison=comparison))

    standings = measured[0].standings
    assert plots_of(*standings) == []  # no accuracies
    half = [dataclasses.replace(one, accuracy_on_images=0.5) for one in standings]
    known = [one if one.kind == "peer" else dataclasses.replace(one, accuracy=0.9) for one in half]
    plots = plots_of(*known)
    assert "of 5 networks" in plots[1]["drawing"]  # those of which the whole test set is known
    plots = plots_of(*(dataclasses.replace(one, accuracy=0.9) for one in standings))
    assert "of 5 networks" in plots[0]["drawing"]  # peers count no MACs
    assert "of 9 networks" in plots[1]["drawing"]
    names = ["headgate float32", "headgate int8", "peer float32", "peer int8"]
    assert [name for _, name in plots[1]["programs"]] == names


def test_page_and_csv_have_the_table(rows: list[Row]) -> None:
    report = build_report("Methods", methods=rows)
    page = render_html(report)
    assert page.count('<svg class="plot"') == 2
    assert "TFLite int8" in page
    assert page.count("30 by pixel") == 2
    assert "Verdict" not in page  # the table of methods says it
    assert page_faults(page) == []
    lines = csv_tables(report)["-methods"].splitlines()
    assert len(lines) == 1 + len(ENTRIES)
    assert lines[0].startswith("name,network,method,program,accuracy,")
    assert {line.count(",") for line in lines} == {lines[0].count(",")}


@pytest.mark.parametrize(
    ("described", "method"),
    [
        ({"gate": None}, "dense"),
        ({"gate": None, "pruning": {"method": "frs", "channels": {}}}, "frs"),
        ({"gate": {"method": "dcp"}, "pruning": None}, "dcp"),
    ],
)
def test_method_of_a_checkpoint(described: dict[str, Any], method: str) -> None:
    assert networks.method_of(described) == method


def test_checkpoints_of_an_architecture_begin_with_the_dense_one() -> None:
    found = networks.find_checkpoints("resnet8")
    assert next(iter(found)) == "resnet8"
    assert {"resnet8-fbs-0.7", "resnet8-fbs-0.5"} <= set(found)
    order = [name for name in found if "fbs" in name]
    assert order == ["resnet8-fbs-0.7", "resnet8-fbs-0.5"]  # from much arithmetic to little


def test_unknown_or_untrained_networks_are_named() -> None:
    with pytest.raises(UsageError, match="Did you mean 'resnet8'"):
        networks.find_checkpoints("resnet9")
    with pytest.raises(UsageError, match="no dense resnet110 comes with the package"):
        networks.find_checkpoints("resnet110")


def test_what_cannot_be_prepared_is_named_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(network: Any, folder: Path) -> str:
        raise ToolMissing("tensorflow is not installed; pip install 'headgate[tflite]'")

    monkeypatch.setattr(networks, "_bundle", lambda network, folder: f"{network.name}.hgb")
    monkeypatch.setattr(networks, "_tflite", refuse)
    monkeypatch.setattr(networks, "_tflite_int8", refuse)
    for name in ("_bundle_int8", "_onnx", "_onnx_int8"):
        monkeypatch.setattr(networks, name, lambda network, folder: "file")
    networks.prepare("resnet8", tmp_path / "new", lambda line: None)
    entries, missing = networks.read_plan(tmp_path / "new")
    assert entries[0].name == "resnet8"
    gated = {one.program for one in entries if "fbs" in one.name}
    assert gated == {HEADGATE, HEADGATE_INT8}
    assert not any("TFLite" in one.name for one in entries)
    assert "tensorflow is not installed" in missing["resnet8 (TFLite int8)"]
    assert not any("fbs" in name for name in missing)  # gates are not asked for in TFLite


def test_checkpoint_that_cannot_be_compiled_is_left_out_of_every_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def bundle(network: Any, folder: Path) -> str:
        if network.name != "resnet8":
            raise ToolMissing("ziglang is not installed")
        return "resnet8.hgb"

    monkeypatch.setattr(networks, "_bundle", bundle)
    for name in ("_bundle_int8", "_tflite", "_tflite_int8", "_onnx", "_onnx_int8"):
        monkeypatch.setattr(networks, name, lambda network, folder: "file")
    networks.prepare("resnet8", tmp_path, lambda line: None)
    entries, missing = networks.read_plan(tmp_path)
    assert {one.checkpoint for one in entries} == {"resnet8"}
    assert set(missing) == set(networks.find_checkpoints("resnet8")) - {"resnet8"}


def test_without_the_dense_network_there_is_no_comparison(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(network: Any, folder: Path) -> str:
        raise ToolMissing("ziglang is not installed")

    monkeypatch.setattr(networks, "_bundle", refuse)
    with pytest.raises(ToolMissing):
        networks.prepare("resnet8", tmp_path, lambda line: None)


def test_sample_stands_in_for_a_data_set_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent() -> None:
        raise DataError("CIFAR-10 is not in /nowhere")

    monkeypatch.setattr(data, "cifar10", absent)
    said: list[str] = []
    assert len(data.whole_test_set(said.append)) == 200
    assert "200 test images of the package" in said[0]


def test_results_of_other_networks_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("README.md").write_text("a\n<!-- methods:begin -->\nold\n<!-- methods:end -->\nb\n")
    publish("methods", {"networks": {"b": 1}}, "new\n")
    assert with_earlier("methods", {"a": 2}) == {"a": 2, "b": 1}
    assert list(with_earlier("methods", {"a": 2}, ["b", "a"])) == ["b", "a"]
    assert with_earlier("methods", {"a": 2}, ["a"]) == {"a": 2}
    assert Path("README.md").read_text() == (
        "a\n<!-- methods:begin -->\nnew\n<!-- methods:end -->\nb\n"
    )
    assert Path("profiling/results/methods.md").read_text() == "new\n"


def test_command_names_a_wrong_network_before_it_compiles(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.main(["resnet8", "resnet-8"]) == 2
    assert "no network 'resnet-8'" in capsys.readouterr().err
    assert not (tmp_path / "build").exists()
