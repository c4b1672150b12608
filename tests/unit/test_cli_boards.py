"""`run`, `validate` and `profile`: odd outputs, reports that cannot be written, boards' options."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headgate.cli import main, profile, profile_boards
from headgate.device import Bundle
from headgate.device.agent.report import Report
from headgate.device.agent.settings import Settings
from headgate.errors import StorageError
from tests import fake_bundle, fake_runner, fake_ssh

INVENTORY = """
[kitchen]
board = "rpi4"
host = "kitchen"
[attic]
board = "rpi4"
host = "attic"
cores = 2
"""
# The first of two outputs is written here, all zeros; the script writes the last one.
TWO = """
paths = [word for before, word in zip(sys.argv, sys.argv[1:]) if before == "--output"]
import os
count = os.path.getsize(options["--input"]) // 96
open(paths[0], "wb").write(bytes(16 * count))
"""


@pytest.fixture
def boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fake_ssh.Boards:
    boards = fake_ssh.install(tmp_path, monkeypatch)
    boards.add("kitchen")
    boards.add("attic")
    Path("boards.toml").write_text(INVENTORY)
    arguments = Settings.arguments
    monkeypatch.setattr(Settings, "arguments", lambda self: [*arguments(self), "--budget-s=0.01"])
    return boards


@pytest.fixture
def model(boards: fake_ssh.Boards, tmp_path: Path) -> Path:
    return save(tmp_path / "model.hgb", "")


def save(path: Path, extra: str) -> Path:
    fake_runner.save_bundle(path, extra=extra)
    return path


@pytest.fixture
def two_outputs(boards: fake_ssh.Boards, tmp_path: Path) -> Path:
    outputs = [{"name": name, "shape": [1, 4], "dtype": "float32"} for name in ("coarse", "fine")]
    bundle = fake_bundle.bundle({"code/runner": fake_runner.script(extra=TWO)})
    vectors = {"inputs": fake_bundle.images(5), "output0": np.zeros((5, 4), np.float32)}
    vectors["output1"] = fake_bundle.expected(vectors["inputs"])
    members = {**bundle.members, "vectors.safetensors": fake_bundle.safetensors(vectors)}
    Bundle({**bundle.manifest, "outputs": outputs}, members).save(tmp_path / "two.hgb")
    return tmp_path / "two.hgb"


@pytest.mark.parametrize("machine", ["host", "kitchen"])
def test_a_network_with_two_outputs(
    two_outputs: Path, machine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(two_outputs), "--on", machine]) == 0
    capsys.readouterr()
    assert main(["run", str(two_outputs), "--on", machine]) == 1
    error = capsys.readouterr().err
    assert "two.hgb has 2 outputs (coarse, fine)" in error and error.count("\n") == 1
    np.save("images.npy", fake_bundle.images(2))
    command = ["validate", str(two_outputs), "--images", "images.npy", "--on", machine]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "two.hgb has 2 outputs" in error and "leave --images out" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("scale", ["nan", "inf"])
def test_outputs_that_are_not_finite_fail(
    boards: fake_ssh.Boards, tmp_path: Path, scale: str, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = f"array.array('f', [float('{scale}')] * 4).tobytes()"
    extra = f"open('bad', 'wb').write({weights})\noptions['--weights'] = 'bad'"
    path = save(tmp_path / "bad.hgb", extra)
    assert main(["validate", str(path), "--json"]) == 3
    figures = json.loads(capsys.readouterr().out)
    assert figures["passed"] is False and figures["max_error"] is None
    assert main(["validate", str(path)]) == 3
    assert "FAILED; the outputs are not finite" in capsys.readouterr().out
    assert main(["validate", str(path), "--on", "kitchen,attic", "--json"]) == 3
    both = json.loads(capsys.readouterr().out)
    assert [both[name]["max_error"] for name in ("kitchen", "attic")] == [None, None]
    assert main(["validate", str(path), "--on", "kitchen,attic"]) == 3
    assert capsys.readouterr().out.count("not finite") == 2


@pytest.mark.parametrize(
    ("machines", "output", "words"),
    [
        ("host", "nowhere/report.json", "cannot write nowhere/report.json: its folder does not"),
        ("kitchen", "nowhere/report.json", "cannot write nowhere/report.json: its folder does not"),
        ("kitchen", "folder", "cannot write folder: it is not an ordinary file"),
        ("kitchen,attic", "a-file", "cannot write a-file: the reports of several machines go to a"),
        ("kitchen,attic", "a-file/reports", "cannot make the folder a-file/reports: part of its"),
        ("kitchen,attic", "taken", "cannot write taken/attic.json: it is not an ordinary file"),
    ],
)
def test_a_report_that_cannot_be_written_costs_no_measurement(
    boards: fake_ssh.Boards,
    tmp_path: Path,
    machines: str,
    output: str,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = save(tmp_path / "model.hgb", f"open({str(tmp_path / 'ran')!r}, 'w')")
    Path("folder").mkdir()
    Path("taken/attic.json").mkdir(parents=True)
    Path("a-file").write_text("kept")
    command = ["profile", str(path), "--on", machines, "--repeat", "1", "-o", output]
    assert main(command) == 1
    captured = capsys.readouterr()
    assert words in captured.err and captured.err.count("\n") == 1 and not captured.out
    assert not (tmp_path / "ran").exists()
    assert Path("a-file").read_text() == "kept"
    assert os.listdir("taken") == ["attic.json"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_costs_no_measurement(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("locked").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    for machines, output in (("kitchen", "locked/x.json"), ("kitchen,attic", "locked")):
        assert main(["profile", str(model), "--on", machines, "-o", output]) == 1
        assert "no permission" in capsys.readouterr().err


@pytest.mark.parametrize("machines", ["host", "kitchen", "kitchen,attic", "kitchen,attic,pi@gone"])
def test_a_disk_that_fills_up_meanwhile_loses_no_measurement(
    model: Path,
    machines: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(path: Path, payload: Any) -> None:
        raise StorageError(f"cannot write {path}: no space left on the disk")

    monkeypatch.setattr(profile_boards, "write_json", full)
    several = "," in machines
    output = "reports" if several else "report.json"
    command = ["profile", str(model), "--on", machines, "--repeat", "1", "-o", output]
    assert main(command) == 1
    captured = capsys.readouterr()
    printed = json.loads(captured.out[captured.out.index("{") :])
    if several:
        assert set(printed) == {"kitchen", "attic"}
        assert printed["attic"]["latency"]["inputs"] == 5
        assert "reports/kitchen.json" in captured.err and "reports/attic.json" in captured.err
    else:
        assert printed["latency"]["inputs"] == 5
    assert captured.err.splitlines()[-1].startswith("headgate: error: cannot write report")
    assert main([*command, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)


def test_host_and_board_print_the_same_table(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = []
    for machine in ("host", "kitchen"):
        assert main(["profile", str(model), "--on", machine, "--repeat", "2"]) == 0
        lines = capsys.readouterr().out.splitlines()
        tables.append([line for line in lines if not line.startswith(("warning: ", "next: "))])
    here, there = tables
    # The first line names bundle and machine.
    assert here[1:] == there[1:] and "mean of 5 inputs" in here[0]
    assert any(line.startswith("MACs executed: 74 of 96 dense") for line in here)


def test_options_of_the_agent_reach_it(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cpu = str(max(os.sched_getaffinity(0)))
    command = ["profile", str(model), "--on", "kitchen", "--repeat", "1", "-o", "report.json"]
    assert main([*command, "--cpus", cpu, "--warmup", "1"]) == 0
    report = json.loads(Path("report.json").read_text())
    assert report["latency"]["cpus"] == [int(cpu)] and report["latency"]["warmup"] == 1
    assert report["machine"] == "kitchen"
    capsys.readouterr()
    assert main(["report", "report.json", "-o", "page.html"]) == 0
    page = Path("page.html").read_text()
    assert f"--on kitchen --repeat 1 --cpus {cpu} --warmup 1  # the bundle" in page
    capsys.readouterr()
    assert main([*command, "--cpus", "x"]) == 2
    assert "kitchen: --cpus 'x': write a list" in capsys.readouterr().err
    assert main([*command, "--governor", "no-such"]) != 0
    assert "--governor no-such" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("profile MODEL --on qemu:rpi4 --cpus 3", "--cpus: for what the agent times"),
        ("profile MODEL --on qemu:rpi4 --warmup 3 --governor x", "--warmup, --governor: for what"),
        ("profile MODEL --on qemu:rpi4 --governor performance", "leave it out for qemu:rpi4"),
        ("profile x.tflite --cpus 3", "--cpus: for what the agent times"),
        ("profile MODEL --on attic --threads 3", "--threads 3: attic is a board 'rpi4' of 2 cores"),
        ("profile MODEL --on kitchen,attic --threads 3", "--threads 3: attic"),
        ("validate MODEL --on kitchen,nosuch", "no machine 'nosuch'"),
        ("run MODEL --on kitchen --threads 5", "--threads 5: kitchen is a board 'rpi4' of 4 cores"),
    ],
)
def test_options_where_they_do_not_apply(
    boards: fake_ssh.Boards,
    model: Path,
    options: str,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(options.replace("MODEL", str(model)).split()) == 2
    captured = capsys.readouterr()
    assert words in captured.err and captured.err.count("\n") == 1 and not captured.out
    assert not (boards.folder / "calls").exists()  # before anything was connected to


def test_of_several_boards_each_warning_is_said(
    boards: fake_ssh.Boards,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    measure = profile.measure

    def warned(bundle: Path, name: str, settings: Settings, images: None) -> Report:
        report = measure(bundle, name, settings, images)
        return dataclasses.replace(report, warnings=[f"it is warm in the {name}"])

    monkeypatch.setattr(profile, "measure", warned)
    assert main(["profile", str(model), "--on", "kitchen,attic", "--repeat", "1"]) == 0
    said = capsys.readouterr().out
    for name in ("kitchen", "attic"):
        assert f"{name}: warning: it is warm in the {name}\n" in said
