"""Reports of boards side by side: what belongs together, what counts, what the page says."""

from __future__ import annotations

import copy
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from headgate.cli.app import app
from headgate.device.agent.absent import NotMeasured
from headgate.errors import HeadgateError, InputError
from headgate.profiling import write_report
from headgate.profiling.charts.power import Span, envelope, power_trace
from headgate.profiling.data import read_page
from headgate.profiling.machines import Board
from headgate.profiling.report import render_html
from headgate.profiling.report_csv import csv_tables
from headgate.profiling.statistics import Ratio
from headgate.profiling.units import energy_delay, millijoules, milliwatts
from tests.agent_reports import agent_report, boards_of, page_data
from tests.page_structure import page_faults

KINDS = ("dense", "pruned", "gated")
Report = dict[str, Any]


@pytest.fixture(scope="module")
def on_pi4(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """The three variants on one board with a meter."""
    root = tmp_path_factory.mktemp("pi4")
    return {kind: agent_report(root / kind, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def on_pi5(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    root = tmp_path_factory.mktemp("pi5")
    return {
        kind: agent_report(root / kind, kind, board="rpi5", slower=0.3)
        for kind in ("dense", "gated")
    }


def page_of(*reports: Report, title: str = "Boards") -> str:
    return render_html(page_data(title, reports))


def test_the_page_is_whole_and_stands_alone(
    on_pi4: dict[str, Report], on_pi5: dict[str, Report]
) -> None:
    page = page_of(*on_pi4.values(), *on_pi5.values())
    assert page_faults(page) == []
    assert page == page_of(*on_pi4.values(), *on_pi5.values())


def test_variants_are_known_by_their_layers_not_by_their_names(on_pi4: dict[str, Report]) -> None:
    reports = [copy.deepcopy(on_pi4[kind]) for kind in ("gated", "dense", "pruned")]
    for number, report in enumerate(reports):
        report["bundle"]["name"] = f"thing {number}"
    (board,) = boards_of(reports)
    gated, dense, pruned = board.entries
    assert (gated.kind, dense.kind, pruned.kind) == ("gated", "dense", "pruned")
    assert gated.baseline is dense and pruned.baseline is dense and dense.baseline is None
    assert [one.kind for one in board.families()[0]] == ["dense", "pruned", "gated"]


def test_ratios_are_those_of_the_medians(on_pi4: dict[str, Report]) -> None:
    (board,) = boards_of(list(on_pi4.values()))
    dense, _, gated = board.entries
    speedup, energy = gated.speedup, gated.energy_ratio
    assert isinstance(speedup, Ratio) and isinstance(energy, Ratio)
    medians = [one["latency"]["latency_us"]["percentiles"]["p50"] for one in on_pi4.values()]
    assert speedup.median == medians[0]["value"] / medians[2]["value"]
    assert speedup.low == medians[0]["low"] / medians[2]["high"]
    assert speedup.low < speedup.median < speedup.high
    # 5.2 W against 4.7 W, and half of the large layer is left out.
    assert energy.median == pytest.approx(5.2 / 4.7 * 1420.3 / 835.3, rel=0.01)
    assert energy.low < energy.median < energy.high
    assert dense.speedup == NotMeasured("the dense network itself")
    saved = gated.macs_saved
    assert isinstance(saved, float)
    assert saved == pytest.approx(1 - (400_000 + 512 + 1_200_000 + 640) / 2_800_640)
    assert gated.realised == pytest.approx((1 - 1 / speedup.median) / saved)


def test_a_gates_own_cost_is_no_part_of_the_dense_count(on_pi4: dict[str, Report]) -> None:
    (board,) = boards_of(list(on_pi4.values()))
    assert [one.dense_macs for one in board.entries] == [2_800_640, 1_840_640, 2_800_640]


def test_no_ratio_rests_on_an_invalid_run(on_pi4: dict[str, Report], tmp_path: Path) -> None:
    hot = {"throttled=0x50000": "throttled=0x50004"}
    bad = agent_report(tmp_path, "dense", after=hot)
    assert not bad["valid"]
    (board,) = boards_of([bad, on_pi4["gated"]])
    for ratio in (board.entries[1].speedup, board.entries[1].energy_ratio):
        assert ratio == NotMeasured("the run of net is invalid")
    page = page_of(bad, on_pi4["gated"])
    assert "Invalid runs" in page
    assert "throttled at the time of the run (throttled=0x50004)" in page
    assert "0x50000 before, 0x50004 after" in page
    assert 'title="not measured: the run of net is invalid"' in page
    assert "faster" not in page


def test_what_spoils_energy_alone_spares_latency(on_pi4: dict[str, Report]) -> None:
    gated = copy.deepcopy(on_pi4["gated"])
    gated |= {"valid": False, "invalid_because": ["energy: window 1: 3 of 10 s without samples"]}
    (board,) = boards_of([on_pi4["dense"], gated])
    assert isinstance(board.entries[1].speedup, Ratio)
    assert isinstance(board.entries[1].energy_ratio, NotMeasured)
    page = page_of(on_pi4["dense"], gated)
    assert "(its energy; its latency counts)" in page and "faster" in page


def test_the_headline_is_of_a_run_that_counts_whole(on_pi4: dict[str, Report]) -> None:
    faster = copy.deepcopy(on_pi4["gated"])
    faster |= {"valid": False, "invalid_because": ["energy: window 1: 3 of 10 s without samples"]}
    faster["bundle"] = {**faster["bundle"], "name": "spoilt"}
    for figure in faster["latency"]["latency_us"]["percentiles"].values():
        figure |= {key: figure[key] / 2 for key in ("value", "low", "high")}
    tiles = page_of(on_pi4["dense"], faster, on_pi4["gated"]).split("Invalid runs")[0]
    assert "faster" in tiles and "spoilt" not in tiles


def test_energies_of_different_sensors_are_not_divided(on_pi4: dict[str, Report]) -> None:
    gated = copy.deepcopy(on_pi4["gated"])
    gated["energy"]["sensor"] = "ppk2"
    (board,) = boards_of([on_pi4["dense"], gated])
    ratio = board.entries[1].energy_ratio
    assert isinstance(ratio, NotMeasured)
    assert ratio.reason.startswith("measured by ppk2 (ina219) here, by hwmon:ina219@1-0040")


def test_a_board_without_a_sensor_says_why(tmp_path: Path) -> None:
    bare = agent_report(tmp_path, "gated", board="rpi3-bare", energy=False)
    bare["energy"]["not_measured"] = "no power sensor to use. jetson: not a Jetson"
    page = page_of(bare)
    assert page_faults(page) == []
    assert "not measured: no power sensor to use. jetson: not a Jetson" in page
    assert "<polyline" not in page
    assert page.count("Above idle") == 0
    assert "no dense network beside it" in page


def test_a_run_without_latency_is_shown_with_what_it_has(on_pi4: dict[str, Report]) -> None:
    only = copy.deepcopy(on_pi4["gated"])
    only |= {"verb": "energy", "latency": {"not_measured": "not asked for"}}
    page = page_of(only)
    assert page_faults(page) == []
    assert "Distribution" not in page and "layers of" not in page
    assert "<polyline" in page
    (board,) = boards_of([only])
    assert board.entries[0].kind == "gated"


def test_boards_of_one_model_are_told_apart_by_their_names(tmp_path: Path) -> None:
    reports = [
        agent_report(tmp_path / f"{host}{kind}", kind, energy=False, hostname=host)
        for host in ("kitchen", "attic")
        for kind in ("dense", "gated")
    ]
    boards = boards_of(reports)
    model = "Raspberry Pi 4 Model B Rev 1.4"
    assert [board.title for board in boards] == [f"{model} (kitchen)", f"{model} (attic)"]
    assert [len(board.entries) for board in boards] == [2, 2]
    assert "All machines" in page_of(*reports)


def labels(board: Board) -> list[str]:
    return [entry.label for entry in board.entries]


def test_one_network_twice_is_labelled_by_what_differs(tmp_path: Path) -> None:
    one, two = (
        agent_report(tmp_path / str(count), energy=False, threads=count) for count in (1, 2)
    )
    (board,) = boards_of([one, two])
    assert labels(board) == ["net, 1 thread", "net, 2 threads"]
    assert len(board.families()) == 2  # more threads are no variant of a network
    later = copy.deepcopy(one)
    later["context"]["before"]["taken_utc"] = "2030-01-01T00:00:00Z"
    (board,) = boards_of([one, later])
    assert labels(board)[1] == "net, 2030-01-01T00:00:00Z"
    assert [entry.kind for entry in board.entries] == ["dense", "dense"]


def test_int8_is_held_against_the_dense_network_in_int8(on_pi4: dict[str, Report]) -> None:
    int8 = copy.deepcopy(on_pi4)
    for report in int8.values():
        report["bundle"]["dtype"] = "int8"
        report["context"]["before"]["taken_utc"] = "2030-01-01T00:00:00Z"
    (board,) = boards_of([*on_pi4.values(), *int8.values()])
    assert labels(board)[:4] == ["net", "net-frs", "net-fbs", "net, int8"]
    assert [entry.kind for entry in board.entries] == ["dense", "pruned", "gated"] * 2
    assert board.entries[5].baseline is board.entries[3]
    page = page_data("", [*on_pi4.values(), *int8.values()])
    lines = list(csv.DictReader(io.StringIO(csv_tables(page)[""])))
    assert [line["dtype"] for line in lines] == ["float32"] * 3 + ["int8"] * 3


def test_names_cannot_smuggle_markup(on_pi4: dict[str, Report]) -> None:
    nasty = '"><script>alert(1)</script>'
    report = copy.deepcopy(on_pi4["gated"])
    report["bundle"]["name"] = report["latency"]["layers"][0]["name"] = nasty
    report["warnings"] = report["arguments"] = [nasty]
    report["machine"] = nasty
    report["context"]["before"]["board"] = report["energy"]["sensor"] = nasty
    page = page_of(report, title=nasty)
    assert "<script" not in page
    assert page_faults(page) == []


def test_warnings_are_said_once_with_whom_they_are_about(on_pi4: dict[str, Report]) -> None:
    page = page_of(*on_pi4.values())
    assert page.count("governor is &#39;ondemand&#39;, not &#39;performance&#39;") == 1
    names = "; ".join(one["bundle"]["name"] for one in on_pi4.values())
    assert f"({names})" in page


def test_windows_are_shaded_and_every_trace_has_one_scale(on_pi4: dict[str, Report]) -> None:
    page = page_of(*on_pi4.values())
    assert page.count('class="window-span"') == 15
    assert page.count('class="idle-span"') == 3
    assert len(set(re.findall(r'text-anchor="end"[^>]*>(\d\.00 W)<', page))) == 5
    assert "inferences of input 4" in page


def test_facts_that_all_runs_share_stand_once(on_pi4: dict[str, Report]) -> None:
    page = page_of(*on_pi4.values())
    assert page.count("<dd>Cortex-A72</dd>") == 1
    assert page.count("Governor and clock") == 1
    for one in on_pi4.values():
        assert one["bundle"]["model_sha256"] in page


def test_layers_that_only_some_variants_have_stand_where_they_run(
    on_pi4: dict[str, Report],
) -> None:
    dense = copy.deepcopy(on_pi4["dense"])
    mean = {**dense["latency"]["layers"][0], "name": "mean", "operator": "channel_mean"}
    dense["latency"]["layers"].insert(2, mean | {"dense_macs": 0, "executed_macs": [0] * 5})
    page = page_of(dense, on_pi4["gated"])
    shown = []
    for table in page.split('<table class="layers">')[1:]:
        names = re.findall(
            r'<td class="name">(.*?)(?:<span|</td>)', table[: table.index("</tbody>")]
        )
        shown.append([name.replace("<wbr>", "") for name in names])
    assert shown == [
        ["conv1", "gate of block.conv2", "block.conv2", "fc"],
        ["conv1", "block.conv2", "mean", "fc"],
    ]


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_has_the_figures_of_the_reports(
    on_pi4: dict[str, Report], on_pi5: dict[str, Report]
) -> None:
    reports = [*on_pi4.values(), *on_pi5.values()]
    tables = csv_tables(page_data("x", reports))
    assert list(tables) == ["", "-layers", "-windows", "-trace"]
    runs = read_csv(tables[""])
    assert [row["kind"] for row in runs] == [*KINDS, "dense", "gated"]
    for row, report in zip(runs, reports, strict=True):
        energy = report["energy"]
        assert float(row["energy_mj"]) == energy["energy_per_inference_mj"]
        assert float(row["net_energy_mj"]) == energy["net_energy_per_inference_mj"]
        assert row["bundle_sha256"] == report["bundle"]["sha256"]
    assert runs[0]["speedup"] == "" and float(runs[2]["speedup"]) > 1.5
    layers = read_csv(tables["-layers"])
    gated = [row for row in layers if row["operator"] == "gated_conv2d"]
    assert [row["active_outputs"] for row in gated[:5]] == ["14", "15", "16", "17", "18"]
    assert {row["channels"] for row in gated} == {"32"}
    assert len(read_csv(tables["-windows"])) == 25
    trace = read_csv(tables["-trace"])
    assert len(trace) == sum(len(report["energy"]["trace"]) for report in reports)


def test_every_line_of_a_table_has_as_many_fields_as_its_header(
    on_pi4: dict[str, Report], tmp_path: Path
) -> None:
    bare = agent_report(tmp_path, "gated", board="rpi3-bare", energy=False)
    bare["latency"] = {"not_measured": "not asked for"}
    for table in csv_tables(page_data("x", [on_pi4["gated"], bare])).values():
        lengths = {len(row) for row in csv.reader(io.StringIO(table))}
        assert len(lengths) == 1


def test_a_report_twice_is_refused(on_pi4: dict[str, Report]) -> None:
    with pytest.raises(InputError, match="is given twice; leave one out"):
        page_data("x", [on_pi4["dense"], on_pi4["dense"]])


def run(*arguments: str | Path) -> tuple[int, str]:
    """Exit code and what was said, or the error."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(done.exception, HeadgateError):
        return done.exception.exit_code, str(done.exception)
    return done.exit_code, done.output


def test_the_command_line_makes_a_page_and_makes_it_again(
    on_pi4: dict[str, Report], tmp_path: Path
) -> None:
    files = []
    for kind, report in on_pi4.items():
        files.append(tmp_path / f"{kind}.json")
        files[-1].write_text(json.dumps(report))
    code, said = run("report", *files, "-o", tmp_path / "page.html", "--title", "Pi")
    assert code == 0, said
    names = ["page.html", "page.json", "page.csv"]
    names += ["page-layers.csv", "page-windows.csv", "page-trace.csv"]
    assert all((tmp_path / name).exists() for name in names)
    code, said = run("report", tmp_path / "page.json", "-o", tmp_path / "again.html")
    assert code == 0, said
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "page.html").read_bytes()


def test_one_report_alone_makes_a_page(on_pi4: dict[str, Report], tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(on_pi4["gated"]))
    code, said = run("report", tmp_path / "report.json", "-o", tmp_path / "page.html")
    assert code == 0, said
    assert "Raspberry Pi 4 Model B Rev 1.4: energy" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["good.json", "net.hgb"], "good.json was measured already: no bundles"),
        (["good.json", "half.json"], "half.json is not JSON, or cut off"),
        (["half.json"], "half.json is not JSON"),
        (["none.json"], "no report .*none.json; check the path"),
        (["other.json"], "other.json is not a report of this version"),
        (["host.json"], "host.json is not a report of this version; .*profile BUNDLE -o FILE"),
        (["good.json", "other.json"], "other.json is no report of the agent's"),
        (["altered.json"], "report 1 in .*altered.json: it has no latency.inputs"),
        (["old.json"], "old.json is not a report of this version; make it again"),
    ],
)
def test_files_that_are_no_reports(
    files: list[str], message: str, on_pi4: dict[str, Report], tmp_path: Path
) -> None:
    text = json.dumps(on_pi4["dense"])
    altered = json.loads(json.dumps(page_data("x", [on_pi4["dense"]]).to_json()))
    del altered["reports"][0]["latency"]["inputs"]
    contents = {
        "good.json": text,
        "half.json": text[: len(text) // 2],
        "other.json": '{"schema": 99}',
        "host.json": '{"machine": "host", "mac_convention": "", "layers": []}',
        "altered.json": json.dumps(altered),
        "old.json": json.dumps({**altered, "schema": 2}),
        "net.hgb": "",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    code, said = run("report", *(tmp_path / name for name in files), "-o", tmp_path / "page.html")
    assert code in (1, 2)
    assert re.search(message, said), said
    assert not (tmp_path / "page.html").exists()


def test_what_was_written_is_what_is_read(on_pi4: dict[str, Report], tmp_path: Path) -> None:
    data = page_data("x", [on_pi4["dense"]], ["again"])
    written = write_report(tmp_path / "b.html", data)
    assert [path.name for path in written][:2] == ["b.html", "b.json"]
    assert read_page(written[1]) == data


# Drawings


def test_the_envelope_keeps_every_peak() -> None:
    trace = [(step / 100, 1000.0) for step in range(10_000)]
    trace[4321], trace[7] = (43.21, 9000.0), (0.07, 10.0)
    thin = envelope(trace, 500)
    assert len(thin) <= 1000
    assert (43.21, 9000.0) in thin and (0.07, 10.0) in thin
    assert thin == sorted(thin)
    assert envelope(trace[:50], 500) == trace[:50]


@pytest.mark.parametrize("trace", [[], [(0.0, 0.0)], [(0.0, 5.0), (1.0, -2.0)]])
def test_a_trace_of_few_points_is_drawn_inside_its_box(trace: list[tuple[float, float]]) -> None:
    span = Span("idle", 0.0, 1.0, 5.0, "idle-span", "idle")
    drawing = str(power_trace(trace, [span], "power", milliwatts, 10.0))
    assert page_faults(f"<p>{drawing}</p>") == []
    for x, y in re.findall(r"([\d.-]+),([\d.-]+)", re.findall(r'points="([^"]*)"', drawing)[0]):
        assert 0 <= float(x) <= 940 and 0 <= float(y) <= 250


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (millijoules(0), "0 J"),
        (millijoules(4.1234), "4.12 mJ"),
        (millijoules(0.0821), "82.1 µJ"),
        (millijoules(1204.0), "1.20 J"),
        (millijoules(-0.5), "-500 µJ"),
        (milliwatts(2600), "2.60 W"),
        (milliwatts(950), "950 mW"),
        (energy_delay(10.4), "10.4 µJ s"),
    ],
)
def test_units(text: str, expected: str) -> None:
    assert text == expected
