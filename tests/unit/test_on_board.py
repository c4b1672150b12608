"""What the board's services run, without a board."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headgate.device.agent_archive import on_board_archive
from headgate.device.image import on_board

AGENT = """
import os, sys, time
assert "--energy-if-any" in sys.argv
report, mode = sys.argv[4], open(sys.argv[2]).read()
if mode == "broken":
    print("headgate-agent: the runner failed", file=sys.stderr)
    sys.exit(1)
print("resnet8 on a board")
if mode == "killed":
    os.kill(os.getpid(), 9)
if mode == "slow":
    time.sleep(3600)
open(report, "w").write("measured")
"""


def words(folder: Path, mode: str) -> list[str]:
    (folder / "agent.py").write_text(AGENT)
    (folder / "bundle").write_text(mode)
    names = ("agent.py", "bundle", "report.json")
    return ["measure", *(str(folder / name) for name in names)]


def packed(folder: Path) -> list[str]:
    """The command of what a board has, in a Python without packages."""
    program = folder / on_board.FILE_NAME
    program.write_bytes(on_board_archive())
    return [sys.executable, "-I", "-S", str(program)]


def measure(folder: Path, mode: str) -> tuple[int, Path]:
    return on_board.main(words(folder, mode)), folder / "report.json"


def test_it_is_measured_once_and_what_was_said_is_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, report = measure(tmp_path, "")
    said = "headgate: measuring\nresnet8 on a board\n"
    assert code == 0
    assert report.read_text() == "measured"
    assert (tmp_path / "report.json.txt").read_text() == said
    assert capfd.readouterr().out == said


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("broken", "headgate-agent: the runner failed\n"),
        ("killed", "resnet8 on a board\nheadgate: signal 9 ended the agent; "),
    ],
)
def test_a_failure_is_written_down(tmp_path: Path, mode: str, said: str) -> None:
    code, report = measure(tmp_path, mode)
    assert code == 1
    assert not report.exists()
    assert said in (tmp_path / "report.json.txt").read_text()


def test_a_measurement_that_is_stopped_leaves_its_words_and_why(tmp_path: Path) -> None:
    command = [*packed(tmp_path), *words(tmp_path, "slow")]
    said = tmp_path / "report.json.txt"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        # It is there while the agent still runs, and so it is when nobody has the time to stop it.
        while not said.exists() or "resnet8 on a board" not in said.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.terminate()
        assert process.wait(300) == 1
    assert "headgate: stopped after " in said.read_text()
    boot = tmp_path / "boot"
    boot.mkdir()
    assert on_board.main(["publish", str(tmp_path / "report.json"), str(boot)]) == 1
    assert (boot / "report.json.txt").read_text() == said.read_text()


def test_the_report_is_published_whole(tmp_path: Path) -> None:
    boot = tmp_path / "boot"
    boot.mkdir()
    _, report = measure(tmp_path, "")
    assert on_board.main(["publish", str(report), str(boot)]) == 0
    assert sorted(os.listdir(boot)) == ["report.json", "report.json.txt"]
    assert (boot / "report.json").read_text() == "measured"


def test_without_a_report_the_words_are_published(tmp_path: Path) -> None:
    boot = tmp_path / "boot"
    boot.mkdir()
    _, report = measure(tmp_path, "broken")
    assert on_board.main(["publish", str(report), str(boot)]) == 1
    assert os.listdir(boot) == ["report.json.txt"]


def test_a_link_in_the_reports_place_is_not_followed(tmp_path: Path) -> None:
    secret, boot, report = tmp_path / "shadow", tmp_path / "boot", tmp_path / "report.json"
    secret.write_text("root:secret")
    boot.mkdir()
    report.symlink_to(secret)
    assert on_board.main(["publish", str(report), str(boot)]) == 1
    report.unlink()
    os.mkfifo(report)
    assert on_board.main(["publish", str(report), str(boot)]) == 1
    assert os.listdir(boot) == []
    report.unlink()
    report.write_text("measured")
    (tmp_path / "report.json.txt").symlink_to(secret)
    assert on_board.main(["publish", str(report), str(boot)]) == 0
    assert os.listdir(boot) == ["report.json"]


def test_the_network_answers_on_standard_output(tmp_path: Path) -> None:
    runner = tmp_path / "code/runner"
    runner.parent.mkdir()
    runner.write_text(
        '#!/bin/sh\n[ "$1 $3 $5" = "--weights --input --output" ] && rev < "$4" > "$6"\n'
    )
    runner.chmod(0o755)
    command = [*packed(tmp_path), "answer", str(tmp_path)]
    done = subprocess.run(command, input=b"abc\n", capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"cba\n")
    runner.write_text("#!/bin/sh\necho 'runner: wrong size' >&2\nexit 1\n")
    done = subprocess.run(command, input=b"abc\n", capture_output=True)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"runner: wrong size\n"


def test_it_needs_nothing_but_the_standard_library_of_an_older_python() -> None:
    tree = ast.parse(Path(on_board.__file__).read_text(), feature_version=(3, 9))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            if node.level:
                assert names == ["protocol"]
                continue
        else:
            continue
        assert all(name.partition(".")[0] in sys.stdlib_module_names for name in names)
