"""Reports of boards: which board is which, readings of nothing, how to measure one again."""

from __future__ import annotations

import copy
import html
import re
from pathlib import Path
from typing import Any

import pytest

from headgate.device.agent.absent import NotMeasured
from headgate.profiling.report import render_html
from headgate.profiling.report_csv import csv_tables
from headgate.profiling.statistics import Ratio
from tests.agent_reports import agent_report, boards_of, page_data
from tests.page_structure import page_faults

Report = dict[str, Any]


@pytest.fixture(scope="module")
def on_pi4(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    root = tmp_path_factory.mktemp("pi4")
    return {kind: agent_report(root / kind, kind) for kind in ("dense", "gated")}


def page_of(*reports: Report) -> str:
    return render_html(page_data("Boards", reports))


@pytest.mark.parametrize(
    ("identities", "machines", "names"),
    [
        (("a" * 64, "b" * 64), (None, None), ["raspberrypi, aaaaaaaa", "raspberrypi, bbbbbbbb"]),
        ((None, None), ("kitchen", "attic"), ["raspberrypi, kitchen", "raspberrypi, attic"]),
        (("a" * 64, "b" * 64), ("pi@x", "pi@y"), ["raspberrypi, pi@x", "raspberrypi, pi@y"]),
        (
            ("a" * 64, "b" * 64),
            ("pi@x", "pi@x"),
            ["raspberrypi, aaaaaaaa", "raspberrypi, bbbbbbbb"],
        ),
        # The same board at another address: its identity counts.
        (("a" * 64, "a" * 64), ("pi@x", "kitchen"), None),
        (({"not_measured": "no serial-number"}, None), (None, None), None),
        ((None, None), ("pi@kitchen", "root@Kitchen:22"), None),
        (
            (None, None),
            ("pi@kitchen", "pi@kitchen:2222"),
            ["raspberrypi, pi@kitchen", "raspberrypi, pi@kitchen:2222"],
        ),
    ],
)
def test_boards_of_one_model_and_host_name_are_told_apart(
    tmp_path: Path,
    identities: tuple[Any, Any],
    machines: tuple[str | None, str | None],
    names: list[str] | None,
) -> None:
    reports = []
    for number, (identity, machine) in enumerate(zip(identities, machines, strict=True)):
        for kind in ("dense", "gated"):
            folder = tmp_path / f"{number}{kind}"
            one = agent_report(folder, kind, energy=False, hostname="raspberrypi")
            one["context"]["before"].pop("board_id", None)
            if identity:
                one["context"]["before"]["board_id"] = identity
            reports.append(one | ({"machine": machine} if machine else {}))
    boards = boards_of(reports)
    model = "Raspberry Pi 4 Model B Rev 1.4"
    if names is None:
        assert [board.title for board in boards] == [model]
        return
    assert [board.title for board in boards] == [f"{model} ({name})" for name in names]
    for board in boards:
        dense, gated = board.entries
        assert gated.baseline is dense
        assert isinstance(gated.speedup, Ratio)


@pytest.mark.parametrize("where", ["windows", "the median"])
@pytest.mark.parametrize("energy", [0.0, -0.25])
def test_a_sensor_that_read_nothing_gives_no_ratio(
    on_pi4: dict[str, Report], where: str, energy: float
) -> None:
    for kind in ("dense", "gated"):
        reports = {one: copy.deepcopy(on_pi4[one]) for one in ("dense", "gated")}
        found = reports[kind]["energy"]
        for one in [found] if where == "the median" else found["windows"][:1]:
            one["energy_per_inference_mj"] = energy
        (board,) = boards_of(list(reports.values()))
        ratio = board.entries[1].energy_ratio
        assert ratio == NotMeasured(f"the sensor read an energy of {energy:g} mJ")
        assert page_faults(page_of(*reports.values())) == []
        csv_tables(page_data("x", list(reports.values())))


def test_a_page_of_nothing_but_zeros(on_pi4: dict[str, Report]) -> None:
    def silenced(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: silenced(one, name) for name, one in value.items()}
        if isinstance(value, list):
            return [silenced(one, key) for one in value]
        measured = key.endswith(("_mw", "_mj", "_us", "value", "low", "high", "per_input"))
        return 0.0 if isinstance(value, float) and measured else value

    reports = [copy.deepcopy(on_pi4[kind]) for kind in ("dense", "gated")]
    for report in reports:
        for part in ("latency", "energy"):
            report[part] = silenced(report[part])
    (board,) = boards_of(reports)
    assert board.entries[1].speedup == NotMeasured("a latency of 0 has no ratio")
    assert page_faults(page_of(*reports)) == []


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"machine": "kitchen", "arguments": ["profile", "PATH", "--threads", "1"]},
            "headgate profile 'my net.hgb' --on kitchen",
        ),
        (
            {
                "arguments": [
                    "profile",
                    "PATH",
                    "--energy",
                    "--threads",
                    "2",
                    "--shunt-uohm",
                    "100000",
                ]
            },
            "headgate profile 'my net.hgb' --on BOARD --energy --threads 2",
        ),
        (
            {
                "machine": "pi@kitchen:22",
                "arguments": [
                    *("profile", "PATH", "--threads", "1", "--energy", "--rounds", "5"),
                    *("--sensor", "command:./meter --csv", "--column", "a_mw"),
                    *("--cpus=2-3", "--warmup=0"),
                    "--governor=performance",
                ],
            },
            "headgate profile 'my net.hgb' --on pi@kitchen:22 --repeat 5 --sensor "
            "'command:./meter --csv' --column a_mw --cpus 2-3 --warmup 0 --governor performance",
        ),
        (
            {"verb": "energy", "arguments": ["energy", "PATH", "-o", "x.json"]},
            "headgate profile 'my net.hgb' --on BOARD --energy",
        ),
        (
            {"verb": "run", "arguments": ["run", "PATH"]},
            "headgate validate 'my net.hgb' --on BOARD",
        ),
    ],
)
def test_how_to_reproduce(on_pi4: dict[str, Report], changes: Report, line: str) -> None:
    report = copy.deepcopy(on_pi4["dense"]) | changes
    report["bundle"]["name"] = "my net"
    there = "/home/pi/.cache/headgate/" + "e" * 64
    report["arguments"] = [there if word == "PATH" else word for word in changes["arguments"]]
    page = render_html(page_data("x", [report], ["headgate report a.json"]))
    commands = html.unescape(re.findall("<pre>(.*?)</pre>", page, re.DOTALL)[0]).splitlines()
    sha256 = report["bundle"]["sha256"]
    assert commands == [f"{line}  # the bundle's SHA-256: {sha256}", "headgate report a.json"]
    assert there not in page
