"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from headgate import __version__, doctor
from headgate.cli import app as app_module
from headgate.cli import main
from headgate.cli.output import print_table
from headgate.device.targets import TARGET_NAMES
from headgate.errors import BundleError, UsageError


def run_program(*arguments: str, shell: str = "") -> subprocess.CompletedProcess[str]:
    command = ["bash", "-o", "pipefail", "-c", f'"$@" {shell}', "bash"]
    program = [sys.executable, "-c", "import sys; from headgate.cli import main; sys.exit(main())"]
    return subprocess.run([*command, *program, *arguments], capture_output=True, text=True)


def failing(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, *options: str
) -> Callable[[], int]:
    """Runs a command that raises ``error``."""
    application = typer.Typer(pretty_exceptions_enable=False)
    application.callback()(app_module.before_the_verb)

    @application.command()
    def fail() -> None:
        raise error

    monkeypatch.setattr(app_module, "app", application)
    return lambda: main([*options, "fail"])


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    verbs = "demo doctor models checkpoints targets data train compile run validate profile"
    for verb in [*verbs.split(), "compare", "report"]:
        assert f" {verb} " in shown, verb


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["doctr"], "No such command 'doctr'. Did you mean 'doctor'?"),
        (["doctor", "--jso"], "No such option: --jso (Possible options: --json)"),
        (["run"], "Missing argument 'BUNDLE'"),
        (["data", "cifar11"], "No such command 'cifar11'. Did you mean 'cifar10', 'cifar100'?"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"headgate: error: {message}")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (BundleError("the bundle\nis short"), 1, "the bundle is short"),
        (UsageError("unknown"), 2, "unknown"),
        (
            OSError(errno.ENOSPC, "No space left on device", "out.hgb"),
            1,
            "reading or writing out.hgb failed: No space left on device; "
            "free some space and repeat",
        ),
        (
            ModuleNotFoundError("No module named 'tvm.relax'", name="tvm.relax"),
            1,
            "this command needs the package 'tvm', which is not installed: "
            "pip install 'headgate[compile]'",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_are_one_line(
    error: BaseException,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert failing(monkeypatch, error)() == code
    assert capsys.readouterr().err == f"headgate: error: {line}\n"


def test_an_interrupt_while_another_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flush() -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    run = failing(monkeypatch, KeyboardInterrupt())
    monkeypatch.setattr(sys.stdout, "flush", flush)
    assert run() == 130
    assert capsys.readouterr().err == "headgate: error: interrupted\n"


def test_debug_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(monkeypatch, BundleError("short"), "--debug")() == 1
    assert "Traceback" in capsys.readouterr().err


def test_our_own_bugs_are_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        failing(monkeypatch, ZeroDivisionError())()


def test_a_reader_that_leaves_is_no_error() -> None:
    done = run_program("models", shell="| head -n 1; exit ${PIPESTATUS[1]}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_to_a_full_disk_is_one_line() -> None:
    done = run_program("targets", "--json", shell="> /dev/full")
    assert done.returncode == 1
    assert done.stderr == (
        "headgate: error: reading or writing failed: No space left on device; "
        "free some space and repeat\n"
    )


def test_doctor_lists_what_is_missing_and_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert "qemu-aarch64" in report["missing"]
    found = {finding["name"]: finding for finding in report["findings"]}
    assert found["qemu-aarch64"]["remedy"] == "sudo apt install qemu-user"
    assert found["numpy"]["found"] and found["numpy"]["version"]
    assert main(["doctor", "--strict"]) == 3


def test_doctor_remarks_on_a_version_it_was_not_tested_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "_pins", lambda: {"numpy": "0.1"})
    remarks = {finding.name: finding.remark for finding in doctor.examine()}
    assert "tested with 0.1" in str(remarks["numpy"])
    assert remarks["safetensors"] is None


def test_targets_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "--json"]) == 0
    names = [row["name"] for row in json.loads(capsys.readouterr().out)]
    assert names == list(TARGET_NAMES)


def test_numbers_are_aligned_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("t", ["name", "us"], [("a", 1.5), ("b", 12345.678)])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["a", "1.5"] for line in lines)
    ends = [len(line.rstrip()) for line in lines if line.split()[-1:] in (["1.5"], ["12,346"])]
    assert len(ends) == 2 and ends[0] == ends[1]
