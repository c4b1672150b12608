"""What the board's services run, without a board."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headgate.device.image import on_board

AGENT = """
import sys
report, energy = sys.argv[4], "--energy" in sys.argv
mode = open(sys.argv[2]).read()
if energy and mode == "no sensor":
    sys.exit(3)
if mode == "broken":
    print("headgate-agent: the runner failed", file=sys.stderr)
    sys.exit(1)
open(report, "w").write("energy" if energy else "latency")
print("resnet8 on a board")
"""


def measure(folder: Path, mode: str) -> tuple[int, Path]:
    (folder / "agent.py").write_text(AGENT)
    (folder / "bundle").write_text(mode)
    report = folder / "report.json"
    names = [str(folder / "agent.py"), str(folder / "bundle"), str(report)]
    return on_board.main(["measure", *names]), report


@pytest.mark.parametrize(
    ("mode", "measured"), [("with sensor", "energy"), ("no sensor", "latency")]
)
def test_energy_is_measured_where_there_is_a_sensor(
    tmp_path: Path, mode: str, measured: str
) -> None:
    code, report = measure(tmp_path, mode)
    assert code == 0
    assert report.read_text() == measured
    assert (tmp_path / "report.json.txt").read_text() == "resnet8 on a board\n"


def test_a_failure_is_written_down(tmp_path: Path) -> None:
    code, report = measure(tmp_path, "broken")
    assert code == 1
    assert not report.exists()
    assert (tmp_path / "report.json.txt").read_text() == ("headgate-agent: the runner failed\n")


def test_the_report_is_published_whole(tmp_path: Path) -> None:
    boot = tmp_path / "boot"
    boot.mkdir()
    _, report = measure(tmp_path, "no sensor")
    assert on_board.main(["publish", str(report), str(boot)]) == 0
    assert sorted(os.listdir(boot)) == ["report.json", "report.json.txt"]
    assert (boot / "report.json").read_text() == "latency"


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


def test_the_network_answers_on_standard_output(tmp_path: Path) -> None:
    runner = tmp_path / "code/runner"
    runner.parent.mkdir()
    runner.write_text(
        '#!/bin/sh\n[ "$1 $3 $5" = "--weights --input --output" ] && rev < "$4" > "$6"\n'
    )
    runner.chmod(0o755)
    command = [sys.executable, "-I", "-S", on_board.__file__, "answer", str(tmp_path)]
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
        else:
            continue
        assert all(name.partition(".")[0] in sys.stdlib_module_names for name in names)
