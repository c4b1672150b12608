"""Boards over a real ssh: this machine's CPU behind a real server, with everything that fails."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from headgate.cli import main
from headgate.device import Bundle, load, validate
from headgate.device.agent.settings import Settings
from headgate.device.boards import find_board
from headgate.device.machines.ssh.deploy import deploy
from headgate.device.machines.ssh.machine import SshMachine
from headgate.device.validation import compare_outputs
from headgate.errors import DeviceError, StorageError
from tests import fake_bundle, fake_runner, sshd

LARGE = 8_000_000


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sshd.Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    with sshd.server(folder) as made:
        monkeypatch.setenv("PATH", f"{made.programs}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        monkeypatch.chdir(tmp_path)
        yield made


@pytest.fixture
def model(tmp_path: Path) -> Path:
    fake_runner.save_bundle(tmp_path / "model.hgb")
    return tmp_path / "model.hgb"


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A bundle that takes a while to copy."""
    filler = np.random.default_rng(0).bytes(LARGE)
    members = {"code/runner": fake_runner.script(), "filler": filler}
    fake_bundle.bundle(members).save(tmp_path / "large.hgb")
    return tmp_path / "large.hgb"


def machine(server: sshd.Server) -> SshMachine:
    return SshMachine(find_board(server.address))


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_outputs_are_the_hosts_to_the_last_bit(server: sshd.Server) -> None:
    pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")
    from tests.networks import shipped

    bundle = shipped("resnet8-fbs-0.5", "host")
    assert validate(bundle, server.address).passed
    (images,), _ = bundle.vectors()
    with load(bundle, "host") as here, load(bundle, server.address, threads=2) as there:
        assert np.array_equal(here.run(images), there.run(images))
        for name, counts in here.active_counts.items():
            assert np.array_equal(counts, there.active_counts[name])
        assert there.profile(images[:1], repeat=3).shape == (3, len(there.layers))
        assert (there.time(images[:2], repeat=3) > 0).all()


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent takes a moment for its figures, not its usual 20 s."""
    arguments = Settings.arguments
    monkeypatch.setattr(Settings, "arguments", lambda self: [*arguments(self), "--budget-s", "0.1"])


@pytest.mark.usefixtures("brief")
def test_the_verbs_end_to_end(
    server: sshd.Server, model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["deploy", str(model), server.address]) == 0
    assert "bytes in" in capsys.readouterr().out
    before = files(server.home / "headgate")
    assert before["model.hgb"] == model.read_bytes()
    assert set(before) == {"model.hgb", "headgate-agent.pyz"}

    assert main(["deploy", str(model), server.address]) == 0
    assert "nothing copied" in capsys.readouterr().out
    assert files(server.home / "headgate") == before

    assert main(["run", str(model), "--on", server.address, "-o", "scores.npy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["machine"] == server.address
    _, (expected,) = Bundle.open(model).vectors()
    assert compare_outputs([np.load("scores.npy")], [expected], 1e-6).passed

    report = tmp_path / "report.json"
    options = ["--on", server.address, "--repeat", "2", "-o", str(report)]
    assert main(["profile", str(model), *options]) == 0
    assert "headgate report" in capsys.readouterr().out
    assert json.loads(report.read_text())["outputs"]["passed"]
    # The agent's own copy of the command line, on the board, without this side.
    agent = server.home / "headgate/headgate-agent.pyz"
    done = subprocess.run([agent, "run", server.home / "headgate/model.hgb"], capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("brief")
def test_energy_with_a_meter_that_the_inventory_names(
    server: sshd.Server, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meter = tmp_path / "meter"
    meter.write_text(
        "#!/bin/sh\ni=0\nwhile sleep 0.02; do i=$((i + 1)); "
        'echo "$(awk "BEGIN { print $i * 0.02 }"),2500"; done\n'
    )
    meter.chmod(0o755)
    (tmp_path / "boards.toml").write_text(
        f"[kitchen]\nboard = 'rpi4'\nhost = 'board'\nsensor = 'command:{meter}'\n"
    )
    kitchen = SshMachine(find_board("kitchen"))
    report = kitchen.measure(
        model, Settings(energy=True, rounds=2, window_s=1, idle_s=1, windows=2)
    )
    assert report.energy.average_power_mw == pytest.approx(2500)
    assert report.energy.sensor.startswith("command")

    (tmp_path / "boards.toml").write_text("[kitchen]\nboard = 'rpi4'\nhost = 'board'\n")
    assert main(["profile", str(model), "--on", "kitchen", "--sensor", "pmic"]) == 1
    assert "energy cannot be measured on kitchen: no sensor pmic" in capsys.readouterr().err


def test_an_alias_behind_a_jump_host(server: sshd.Server, model: Path) -> None:
    assert validate(model, f"{server.user}@behind").passed


@pytest.mark.parametrize(
    "option",
    [
        "SessionType none",
        "StdinNull yes",
        "ForkAfterAuthentication yes",
        "IgnoreUnknown UseKeychain\nUseKeychain yes",
    ],
)
def test_what_a_user_may_have_configured(server: sshd.Server, model: Path, option: str) -> None:
    config = server.folder / "ssh_config"
    config.write_text(f"{option}\n{config.read_text()}")
    asked = subprocess.run(["ssh", "-G", "board"], capture_output=True, text=True)
    if "Bad configuration option" in asked.stderr:
        pytest.skip("this ssh is older than 8.7")
    assert validate(model, server.address).passed


def test_a_fleet(
    server: sshd.Server, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "boards.toml").write_text(
        "[kitchen]\nboard = 'rpi4'\nhost = 'board'\n"
        "[attic]\nboard = 'rpi5'\nhost = 'nowhere.invalid'\n"
        "[desk]\nboard = 'rpi3'\nhost = 'behind'\n"
    )
    assert main(["validate", str(model), "--on", "all", "--json"]) == 1
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert [result[name].get("passed") for name in ("kitchen", "attic", "desk")] == [
        True,
        None,
        True,
    ]
    last = captured.err.splitlines()[-1]
    assert last == f"headgate: error: attic: {result['attic']['error']}"
    assert main(["deploy", str(model), "kitchen,desk"]) == 0
    assert main(["validate", str(model), "--on", "kitchen,desk"]) == 0


def dropping(server: sshd.Server, after: int) -> Callable[[int, int], None]:
    """Progress that pulls the plug once, when so many bytes are gone."""
    pulled = []

    def progress(sent: int, total: int) -> None:
        if sent >= after and not pulled:
            pulled.append(sent)
            server.drop()

    return progress


def test_a_board_that_drops_off_while_a_bundle_is_copied(
    server: sshd.Server, model: Path, large: Path, tmp_path: Path
) -> None:
    (tmp_path / "first").mkdir()
    first = tmp_path / "first/large.hgb"
    first.write_bytes(model.read_bytes())
    deploy(first, machine(server))
    with pytest.raises(DeviceError, match="dropped off") as caught:
        deploy(large, machine(server), dropping(server, LARGE // 2))
    assert "\n" not in str(caught.value)
    assert files(server.home / "headgate")["large.hgb"] == model.read_bytes()

    done = deploy(large, machine(server))
    assert 0 < done.copied_bytes < LARGE  # the rest of it
    assert files(server.home / "headgate")["large.hgb"] == large.read_bytes()
    assert not list(server.home.rglob("*.part"))


def test_a_board_that_drops_off_while_it_measures(
    server: sshd.Server, model: Path, tmp_path: Path
) -> None:
    """Nothing goes on there: neither the agent nor the network."""
    slow = tmp_path / "slow.hgb"
    fake_runner.save_bundle(slow, extra="time.sleep(3600)")
    command = ["headgate", "profile", str(slow), "--on", server.address]
    running = subprocess.Popen([sys.executable, "-m", *command], stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: bool(processes(server.home / "tmp")))  # the network runs
        server.drop()
        _, stderr = running.communicate(timeout=600)
    finally:
        running.kill()
    assert running.returncode == 1
    assert stderr.splitlines()[-1].startswith(f"headgate: error: {server.address} dropped off")
    wait_for(lambda: not processes(server.home))
    assert not list((server.home / "tmp").iterdir())


def test_whoever_measures_is_killed(server: sshd.Server, tmp_path: Path) -> None:
    slow = tmp_path / "slow.hgb"
    fake_runner.save_bundle(slow, extra="time.sleep(3600)")
    command = [sys.executable, "-m", "headgate", "profile", str(slow), "--on", server.address]
    # Nobody is left to remove its folder, whose path has to be short.
    with tempfile.TemporaryDirectory(prefix="hg-") as folder:
        environment = os.environ | {"TMPDIR": folder}
        running = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
        try:
            wait_for(lambda: bool(processes(server.home / "tmp")))  # the network runs
        finally:
            running.kill()
            running.wait()
        wait_for(lambda: not processes(server.home) and not processes(folder))
    assert not list((server.home / "tmp").iterdir())


@pytest.mark.parametrize("how", ["interrupted", "killed", "dropped"])
def test_a_run_that_nobody_waits_for_ends(
    server: sshd.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    slow = tmp_path / "slow.hgb"
    fake_runner.save_bundle(slow, extra="time.sleep(3600)")
    command = [sys.executable, "-m", "headgate", "validate", str(slow), "--on", server.address]
    # Nobody may be left to remove the connection's folder, whose path has to be short.
    with tempfile.TemporaryDirectory(prefix="hg-") as folder:
        running = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"TMPDIR": folder},
        )
        try:
            wait_for(lambda: any((server.home / "tmp").glob("headgate-*/results")))
            wait_for(lambda: bool(networks(server)))
            if how == "interrupted":
                os.killpg(running.pid, signal.SIGINT)
            elif how == "killed":
                running.kill()
            else:
                server.drop()
            _, stderr = running.communicate(timeout=600)
        finally:
            running.kill()
        wait_for(lambda: not networks(server))
        wait_for(lambda: not any((server.home / "tmp").iterdir()))
        wait_for(lambda: not processes(folder))
    assert "Traceback" not in stderr


def networks(server: sshd.Server) -> list[str]:
    """Command lines of runners, not of shells that start them."""
    runner = f"-IS {server.home}/.cache/headgate/"
    return [command for command in processes(runner) if not command.startswith("sh ")]


def test_an_interrupt_while_several_boards_are_connected_to(
    server: sshd.Server, model: Path, tmp_path: Path
) -> None:
    """As often as it is pressed: soon over, without a traceback, and nothing has run."""
    ssh = server.programs / "ssh"
    reached = tmp_path / "reached"
    reached.mkdir()
    wait = f"touch {shlex.quote(str(reached))}/$$; sleep 600"
    slow = f'case "$*" in *ControlMaster=yes*) {wait};; esac\nexec '
    ssh.write_text(ssh.read_text().replace("exec ", slow, 1))
    (tmp_path / "boards.toml").write_text(
        "[kitchen]\nboard = 'rpi4'\nhost = 'board'\n[desk]\nboard = 'rpi3'\nhost = 'behind'\n"
    )
    command = [sys.executable, "-m", "headgate", "profile", str(model), "--on", "all"]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    wait_for(lambda: len(list(reached.iterdir())) == 2)
    deadline = time.monotonic() + 300
    while running.poll() is None and time.monotonic() < deadline:
        os.killpg(running.pid, signal.SIGINT)
        time.sleep(0.3)
    output, _ = running.communicate(timeout=600)
    assert running.returncode == 130, output
    assert "Traceback" not in output
    assert not files(server.home)
    wait_for(lambda: not processes(server.folder / "ssh_config"))


def processes(words: str | Path) -> list[str]:
    """Command lines with these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [command for command in found if str(words) in command]


def wait_for(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_disk_without_space(server: sshd.Server, model: Path, large: Path) -> None:
    folder = server.home / ".cache"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "headgate-test", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk can be mounted by root only")
    try:
        deploy(model, machine(server))
        before = files(server.home)
        with pytest.raises(StorageError, match="are free on its disk"):
            deploy(large, machine(server))
        assert files(server.home) == before
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_host_key_that_changed(server: sshd.Server, model: Path) -> None:
    server.knows(server.folder / "user_key.pub")
    with pytest.raises(
        DeviceError, match=r"host key of .* is not the one.*ssh-keygen -f .* -R '\[127"
    ):
        deploy(model, machine(server))
    assert not files(server.home)


@pytest.mark.parametrize("host", ["board", "behind"])
def test_what_to_do_about_a_changed_host_key_is_right(
    server: sshd.Server, model: Path, tmp_path: Path, host: str
) -> None:
    """Of an alias, and of the host that is jumped over."""
    server.knows(server.folder / "user_key.pub")
    (tmp_path / "boards.toml").write_text(f"[kitchen]\nboard = 'rpi4'\nhost = '{host}'\n")
    with pytest.raises(DeviceError, match="If you know why: ") as caught:
        deploy(model, SshMachine(find_board("kitchen")))
    command = re.search(r"If you know why: (ssh-keygen .*), then ssh", str(caught.value))
    assert command is not None
    subprocess.run(shlex.split(command[1]), check=True, capture_output=True)
    with pytest.raises(DeviceError, match="does not know the host key"):
        deploy(model, SshMachine(find_board("kitchen")))


def test_a_host_key_that_nobody_has_seen(server: sshd.Server, model: Path) -> None:
    (server.folder / "known_hosts").unlink()
    with pytest.raises(DeviceError, match=r"does not know the host key of .*connect once with"):
        deploy(model, machine(server))
    assert not (server.folder / "known_hosts").exists()
    assert not files(server.home)


def test_a_key_that_the_board_does_not_accept(server: sshd.Server, model: Path) -> None:
    (server.folder / "authorized_keys").write_text("")
    with pytest.raises(DeviceError, match=r"accepts none of your keys.*ssh-copy-id"):
        deploy(model, machine(server))


def test_a_board_that_is_off(server: sshd.Server, model: Path) -> None:
    server.stop()
    with pytest.raises(DeviceError, match=r"cannot reach .*Connection refused.*switched on"):
        deploy(model, machine(server))


def test_one_connection_for_all_of_a_command(server: sshd.Server, model: Path) -> None:
    assert validate(model, server.address).passed
    log = (server.folder / "log").read_text()
    assert log.count("Accepted publickey") == 1
