"""A board as a machine: the runner there, the agent there, and the verbs that use them."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headgate.cli import main
from headgate.device import Bundle, load, validate
from headgate.device.agent.settings import Settings
from headgate.device.agent_call import agent_result
from headgate.device.boards import find_board
from headgate.device.machines.ssh.machine import SshMachine
from headgate.errors import BundleError, DeviceError, StorageError, ToolMissing, UsageError
from tests import fake_bundle, fake_runner, fake_ssh

INVENTORY = "[kitchen]\nboard = 'rpi4'\nhost = 'kitchen'\n[attic]\nboard = 'rpi5'\nhost = 'attic'\n"


@pytest.fixture
def boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fake_ssh.Boards:
    boards = fake_ssh.install(tmp_path, monkeypatch)
    boards.add("kitchen")
    Path("boards.toml").write_text(INVENTORY)
    return boards


@pytest.fixture
def model(tmp_path: Path) -> Path:
    fake_runner.save_bundle(tmp_path / "model.hgb")
    return tmp_path / "model.hgb"


def with_runner(extra: str) -> Bundle:
    return fake_bundle.bundle({"code/runner": fake_runner.script(extra=extra)})


def test_everything_a_program_can_tell(boards: fake_ssh.Boards, model: Path) -> None:
    images = fake_bundle.images(4, seed=1)
    with load(model, "kitchen") as program:
        assert np.allclose(program.run(images), fake_bundle.expected(images), atol=1e-6)
        assert program.active_counts["block"].tolist() == [2, 3, 2, 3]
        assert program.time(images[:2], repeat=3).tolist() == [1000, 1001, 1002, 1100, 1101, 1102]
        assert program.profile(images[:1], repeat=2).tolist() == [[250, 750], [250.25, 750.75]]
    with pytest.raises(UsageError, match="closed"):
        program.run(images)
    # One connection, which the others went through; runner and weights were looked for once.
    masters = [call for call in boards.calls() if "ControlMaster=yes" in call]
    assert len(masters) == 1
    assert len(boards.calls()) == 1 + 2 + 2 + 3  # facts, survey; runner, weights; three runs


def test_results_may_be_written_into(boards: fake_ssh.Boards, model: Path) -> None:
    with load(model, "kitchen") as program:
        scores = program.run(fake_bundle.images(1))
        scores += 1


def test_threads_reach_the_runner(boards: fake_ssh.Boards) -> None:
    bundle = with_runner('assert options["--threads"] == "2"')
    with load(bundle, "kitchen", threads=2) as program:
        program.run(fake_bundle.images(1))
    with pytest.raises(UsageError, match=r"16 threads, but kitchen has \d+ cores"):
        load(bundle, "kitchen", threads=16)


def test_nothing_of_a_run_is_left_on_the_board(
    boards: fake_ssh.Boards, model: Path, tmp_path: Path
) -> None:
    assert validate(model, "kitchen").passed
    with load(with_runner("assert False"), "kitchen") as program, pytest.raises(DeviceError):
        program.run(fake_bundle.images(1))
    assert boards.temporary("kitchen") == []
    assert [path.name for path in (tmp_path / "boards/kitchen").iterdir()] == [".cache"]


def test_a_bundle_for_another_architecture(boards: fake_ssh.Boards) -> None:
    bundle = fake_bundle.bundle({"code/runner": b"code"})
    bundle.manifest["target"]["arch"] = "riscv64"
    words = r"for target host \(riscv64\), kitchen is .*; recompile it with --target rpi4"
    with pytest.raises(BundleError, match=words) as caught:
        load(bundle, "kitchen")
    assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match="--target one of `headgate targets`"):
        load(bundle, "pi@kitchen")


def test_a_cpu_that_lacks_an_instruction_set(boards: fake_ssh.Boards) -> None:
    machine = SshMachine(find_board("kitchen"))
    machine._facts = replace(machine.facts(), cpuinfo="flags: fpu sse2\nFeatures: fp asimd\n")
    bundle = fake_bundle.bundle({"code/runner": b"code"})
    cpu = {"x86_64": "x86-64-v2", "aarch64": "cortex-a76"}[fake_bundle.HERE]
    bundle.manifest["target"]["cpu"] = cpu
    with pytest.raises(BundleError, match=r"whose CPU lacks \w+.*--target rpi4"):
        machine.check(bundle)


def test_a_bundle_without_a_runner(boards: fake_ssh.Boards) -> None:
    with pytest.raises(BundleError, match="has no code/runner; recompile it"):
        load(fake_bundle.bundle({"code/network.so": b"code"}), "kitchen")


@pytest.mark.parametrize(
    ("extra", "error", "words"),
    [
        ("sys.exit('runner: it is broken')", DeviceError, "cannot run 'fake' on kitchen: .*broken"),
        ("sys.exit('runner: cannot write x: No space left on device')", StorageError, "no space"),
        ("import os; os.kill(os.getpid(), 4)", DeviceError, "an instruction that kitchen lacks"),
        ("sys.exit(0)", DeviceError, "output0 did not come back from kitchen"),
        ('options["--repeat"] = "2"', None, ""),
    ],
)
def test_a_runner_that_fails(
    boards: fake_ssh.Boards, extra: str, error: type[Exception] | None, words: str
) -> None:
    with load(with_runner(extra), "kitchen") as program:
        if error is None:
            program.run(fake_bundle.images(1))
            return
        with pytest.raises(error, match=words) as caught:
            program.run(fake_bundle.images(1))
    assert "\n" not in str(caught.value)


def test_what_the_agent_is_asked_for() -> None:
    assert Settings().arguments() == ["--threads=1"]
    settings = Settings(
        threads=2,
        energy=True,
        sensor="hwmon:ina219@1-0040",
        shunt_uohm=100000,
        column="power_mw",
        rounds=5,
        budget_s=1.0,
    )
    assert settings.arguments() == [
        *("--energy", "--threads=2", "--rounds=5", "--budget-s=1.0"),
        *("--sensor=hwmon:ina219@1-0040", "--shunt-uohm=100000", "--column=power_mw"),
    ]
    # A sensor of the inventory is no wish for energy.
    assert Settings(sensor="pmic").arguments() == ["--threads=1"]


BRIEF = Settings(rounds=1, budget_s=0.01)


def test_the_agents_report(boards: fake_ssh.Boards, model: Path) -> None:
    report = SshMachine(find_board("kitchen")).measure(model, BRIEF)
    assert report.outputs.passed
    assert boards.temporary("kitchen") == []
    assert report.bundle.sha256 in str(report.bundle.path)
    assert report.latency.latency_us.median >= 1000


def test_wrong_outputs_are_a_result(boards: fake_ssh.Boards) -> None:
    bundle = with_runner('options["--weights"] = options["--input"]')
    report = SshMachine(find_board("kitchen")).measure(bundle, BRIEF)
    assert not report.valid and "PyTorch" in report.invalid_because[0]


class Newer(Settings):
    """Settings with one that the agent does not know."""

    def arguments(self) -> list[str]:
        return [*super().arguments(), "--nonsense"]


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        (Settings(cpus="x"), UsageError, "kitchen: --cpus 'x': write a list"),
        (Newer(), UsageError, "kitchen: .*unrecognized arguments"),
        (
            Settings(energy=True, sensor="pmic"),
            DeviceError,
            "energy cannot be measured on kitchen: no sensor pmic",
        ),
    ],
)
def test_what_the_agent_refuses(
    boards: fake_ssh.Boards, model: Path, settings: Settings, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        SshMachine(find_board("kitchen")).measure(model, settings)
    assert "\n" not in str(caught.value)


def test_a_runner_that_fails_while_it_is_measured(boards: fake_ssh.Boards) -> None:
    with pytest.raises(DeviceError, match=r"cannot measure on kitchen: .*it is broken"):
        SshMachine(find_board("kitchen")).measure(with_runner("sys.exit('it is broken')"), BRIEF)


def programs(folder: Path, without: Sequence[str] = ()) -> Path:
    """A folder with what a board needs, and nothing else."""
    needed = "cat sh tar mktemp rm mkdir env uname getconf tr find sha256sum wc df tail awk touch"
    needed += " chmod sync mv head ln readlink sleep grep"
    folder.mkdir()
    for name in needed.split():
        if name not in without:
            os.symlink(str(shutil.which(name)), folder / name)
    return folder


def test_a_board_whose_cores_are_counted_otherwise(
    boards: fake_ssh.Boards, model: Path, tmp_path: Path
) -> None:
    boards.has_programs("kitchen", programs(tmp_path / "bin", without=["getconf"]))
    assert SshMachine(find_board("kitchen")).facts().cores == os.cpu_count()


def test_a_board_without_python(boards: fake_ssh.Boards, model: Path, tmp_path: Path) -> None:
    folder = programs(tmp_path / "bin")
    boards.has_programs("kitchen", folder)
    with pytest.raises(ToolMissing, match=r"has no Python 3.8 or newer.*apt install python3"):
        SshMachine(find_board("kitchen")).measure(model, BRIEF)
    assert validate(model, "kitchen").passed
    # JetPack 4: an old python3, and a newer one beside it.
    (folder / "python3").write_text("#!/bin/sh\nexit 1\n")
    (folder / "python3").chmod(0o755)
    with pytest.raises(ToolMissing):
        SshMachine(find_board("kitchen")).measure(model, BRIEF)
    (folder / "python3.8").symlink_to(sys.executable)
    assert SshMachine(find_board("kitchen")).measure(model, BRIEF).outputs.passed


def test_what_is_no_report() -> None:
    with pytest.raises(DeviceError, match=r"kitchen: .*not JSON"):
        agent_result("kitchen", 0, b'{"schema": 1', "")


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = Settings.arguments
    monkeypatch.setattr(Settings, "arguments", lambda self: [*arguments(self), "--budget-s", "0.1"])


@pytest.mark.usefixtures("brief")
def test_profile_of_several_boards(
    boards: fake_ssh.Boards, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["profile", str(model), "--repeat", "1"]
    assert main([*command, "--on", "all", "-o", "reports"]) == 1
    captured = capsys.readouterr()
    assert "kitchen" in captured.out and "failed" in captured.out
    error = captured.err.splitlines()[-1]
    assert error.startswith("headgate: error: attic: cannot reach attic")
    assert [path.name for path in Path("reports").iterdir()] == ["kitchen.json"]


@pytest.mark.usefixtures("brief")
def test_energy_on_this_machine_is_the_agents_business(
    boards: fake_ssh.Boards, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", str(model), "--sensor", "pmic"]) == 1
    assert "energy cannot be measured on host: no sensor pmic" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("profile MODEL --on kitchen --images sample", "own test vectors; leave --images out"),
        ("profile MODEL --on kitchen,host", "measured apart"),
        ("profile MODEL --on qemu:rpi4 --energy", "no energy to measure"),
        ("profile x.tflite --on kitchen", "measures bundles"),
        ("profile x.tflite --threads 2", "one thread"),
        ("run x.tflite --threads 2", "one thread"),
        ("compare MODEL --on kitchen", "kitchen is a board, which measures itself"),
        ("run MODEL --on kitchen,attic -o x.npy", "for one machine"),
        ("run MODEL --on kitchn", "no machine 'kitchn'. Did you mean 'kitchen'"),
        ("deploy MODEL kitchn", "no board 'kitchn'. Did you mean 'kitchen'"),
        ("deploy MODEL host", "no board 'host'"),
        ("validate MODEL --on kitchen,kitchen", "twice"),
    ],
)
def test_wrong_usage(
    boards: fake_ssh.Boards,
    model: Path,
    options: str,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(options.replace("MODEL", str(model)).split()) == 2
    captured = capsys.readouterr()
    assert words in captured.err and captured.err.count("\n") == 1 and not captured.out


def test_threads_on_this_machine(
    boards: fake_ssh.Boards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "threads.hgb"
    fake_runner.save_bundle(path, extra='assert options["--threads"] == "2"')
    for verb in ("run", "profile"):
        command = [verb, str(path), *(("--repeat", "1") if verb == "profile" else ())]
        assert main(command) == 1
        assert main([*command, "--threads", "2"]) == 0
    assert capsys.readouterr().err.count("KeyError: '--threads'") == 2


def test_the_inventory_as_a_list(
    boards: fake_ssh.Boards, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["boards"]) == 0
    shown = capsys.readouterr().out
    assert "rpi-zero-2w" in shown and "attic" in shown
    assert main(["boards", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["boards"]["kitchen"]["kind"]["target"] == "rpi4"
    Path("boards.toml").unlink()
    assert main(["boards"]) == 0
    assert "there is no boards.toml" in capsys.readouterr().out
