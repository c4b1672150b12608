"""The threads benchmark: two programs in turn, its table, its warnings; no clock is read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import markdown, threads
from headgate.errors import DeviceError
from tests import fake_bundle
from tests.fake_program import ScriptedProgram
from tests.measured import CONTEXT

IMAGES = fake_bundle.images(2)


def in_turn(alone: Any, shared: Any, rounds: int = 9) -> dict[str, Any]:
    programs = ScriptedProgram(alone), ScriptedProgram(shared)
    return threads.compare_in_turn(*programs, IMAGES, rounds)


def test_faster_is_one_time_over_the_other() -> None:
    row = in_turn(lambda run: 900, lambda run: 500)
    assert row["faster"] == {"median": 1.8, "low": 1.8, "high": 1.8}
    assert markdown.median(row["alone_us"]) == 900 and markdown.median(row["shared_us"]) == 500
    assert row["alone_us"]["count"] == 9 * len(IMAGES) * threads.BURST_RUNS


def test_a_machine_that_slows_down_does_not_change_the_ratio() -> None:
    row = in_turn(lambda run: 900 * (1 + run / 50), lambda run: 500 * (1 + run / 50))
    assert row["faster"]["median"] == pytest.approx(1.8, rel=1e-3)
    assert row["alone_us"]["drifted"]


def test_who_goes_first_alternates() -> None:
    order: list[str] = []
    in_turn(lambda run: order.append("alone") or 1, lambda run: order.append("shared") or 1, 4)
    checked = 2 * len(IMAGES)  # both ran all images once, to be compared
    firsts = order[checked :: 2 * len(IMAGES) * threads.BURST_RUNS]
    assert firsts == ["alone", "shared", "alone", "shared"]


@pytest.mark.parametrize("difference", ["outputs", "channels"])
def test_programs_that_compute_something_else_are_not_timed(difference: str) -> None:
    alone, shared = ScriptedProgram(lambda run: 1), ScriptedProgram(lambda run: 1)
    if difference == "channels":
        shared.active = 1
    else:
        shared.run = lambda inputs: fake_bundle.expected(inputs) + np.float32(1e-7)  # type: ignore[method-assign]
    with pytest.raises(DeviceError, match="bug of headgate"):
        threads.compare_in_turn(alone, shared, IMAGES, 1)
    assert len(alone.calls) <= 1 and len(shared.calls) <= 1


def test_table() -> None:
    row = {"name": "resnet8", "threads": 2, **in_turn(lambda run: 900, lambda run: 500)}
    network = {"rows": [row], "context": CONTEXT, "warnings": ["it was hot"]}
    lines = threads.render({"networks": {"resnet8": network}}).splitlines()
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells[0] == "resnet8"
    assert cells[2:] == ["0.900", "2", "0.500", "**1.80x**", "1.80 to 1.80"]
    assert "a CPU (2 CPUs, load 0.5 to 0.5)" in lines[-1] and "Warning: it was hot." in lines[-1]


def test_cpus_of_one_core_are_warned_of(tmp_path: Path) -> None:
    for cpu, listed in enumerate(["0,2", "1", "0,2"]):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(listed + "\n")
    assert threads.siblings(frozenset({0, 2}), tmp_path) == [
        "CPUs 0 and 2 are threads of one core, which they share"
    ]
    assert threads.siblings(frozenset({0, 1}), tmp_path) == []
    assert threads.siblings(frozenset({7, 8}), tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["resnet9"], "Did you mean 'resnet8'"),
        (["--threads", "1"], "at least 2"),
        (["--threads", "4096"], "there are"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert threads.main(arguments) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1


def test_results_of_earlier_runs_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    row = {"sha256": "0", "threads": 2, **in_turn(lambda run: 900, lambda run: 500)}
    monkeypatch.setattr(threads, "measure", lambda path, count, rounds: {"name": path.stem, **row})
    (tmp_path / "README.md").write_text("<!-- threads:begin -->\n<!-- threads:end -->\n")
    for network in ("vgg16", "resnet8"):
        threads.run(network, 2, frozenset(), None)
    results = json.loads((tmp_path / "profiling/results/threads.json").read_text())
    assert list(results["networks"]) == ["resnet8", "vgg16"]
    assert "vgg16-fbs-0.5" in (tmp_path / "README.md").read_text()


def test_measuring_imports_neither_torch_nor_tvm() -> None:
    code = "import sys, bench.threads; print({'torch', 'tvm'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
