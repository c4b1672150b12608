"""End to end, no step faked: an SD image is flashed, boots, measures, and is measured over ssh.

The bundle and the card's image come from the containers of docker/. Takes minutes, so it runs when
asked for: `make system`, or HEADGATE_SYSTEM=1. The base image is built of Debian's packages, in the
container that makes images, or is the one that HEADGATE_BASE_IMAGE names.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from headgate.device import Bundle
from headgate.device.agent.absent import NotMeasured
from headgate.device.agent_report import read_agent_report
from tests.containers import Docker, mounted
from tests.emulated_board import EmulatedBoard, emulated_board

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")
pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        not os.environ.get("HEADGATE_SYSTEM"), reason="boots a machine, takes minutes: make system"
    ),
]

NETWORK, USER = "resnet8-fbs-0.5", "maker"
ROOT_OFFSET = 532480 * 512
CARD_BYTES = 4 * 2**30


@dataclass
class Booted:
    """A board that has been through its first boot, and how long each step took, in seconds."""

    board: EmulatedBoard
    bundle: Path
    folder: Path
    times_s: dict[str, float]

    @property
    def address(self) -> str:
        return f"{USER}@127.0.0.1:{self.board.port}"

    def ssh(
        self, *command: str, options: tuple[str, ...] = (), data: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program there; the words pass the remote shell unchanged."""
        ssh = [str(self.folder / "programs/ssh"), "-o", "BatchMode=yes", *options]
        ssh += ["-p", str(self.board.port), f"{USER}@127.0.0.1", shlex.join(command)]
        return subprocess.run(ssh, input=data, capture_output=True, timeout=300)


def headgate(*arguments: object, path: Path | None = None) -> str:
    """The command line in a process of its own; what it prints."""
    environment = dict(os.environ)
    if path is not None:
        environment["PATH"] = f"{path}{os.pathsep}{environment['PATH']}"
    command = [sys.executable, "-m", "headgate", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An operating system's image: the one that is named, or one that the container builds."""
    if named := os.environ.get("HEADGATE_BASE_IMAGE"):
        return Path(named)
    if not Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists():
        pytest.skip("this kernel does not start arm64 programs: sudo apt install qemu-user-static")
    docker: Docker = request.getfixturevalue("docker")
    image_maker: str = request.getfixturevalue("image_maker")
    folder = tmp_path_factory.mktemp("base")
    container = ["run", "--rm", "--network", "host", "-v", f"{folder}:/src"]
    started_s = time.monotonic()
    docker(*container, image_maker, "debian-base", "debian.img", timeout=3000)
    print(f"\ndebian-base {time.monotonic() - started_s:.0f} s")
    return folder / "debian.img"


@pytest.fixture(scope="module")
def booted(
    docker: Docker,
    compiler: str,
    home: list[str],
    image_maker: str,
    base: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Booted]:
    """Compile and make the image in containers, flash it, boot it twice, wait for the report."""
    folder = tmp_path_factory.mktemp("board")
    times_s: dict[str, float] = {}

    def timed(step: str, work: Callable[[], object]) -> None:
        started_s = time.monotonic()
        work()
        times_s[step] = time.monotonic() - started_s

    bundle, image, card = folder / "network.hgb", folder / "pi.img", folder / "card.img"
    key = folder / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    compile_ = ["compile", NETWORK, "--target", "rpi4", "-o", bundle.name]
    timed("compile", lambda: docker(*mounted(folder), *home, compiler, *compile_))
    bases = ["-v", f"{base.parent}:/bases:ro"]
    options = ["--board", "rpi4", "--bundle", bundle.name, "--ssh-key", f"{key.name}.pub"]
    options += ["--hostname", "bench-1", "--user", USER]
    options += ["--base", f"/bases/{base.name}", "-o", image.name]
    timed("image", lambda: docker(*mounted(folder), *bases, image_maker, "image", *options))
    timed("flash", lambda: headgate("flash", image, card, "--yes"))
    os.truncate(card, CARD_BYTES)
    with emulated_board(card, folder) as board:
        board.start()
        times_s["first boot"] = board.wait_for_restart(900)
        board.start()
        report = "headgate/report.json"
        times_s["report"] = board.wait_for(lambda: bool(board.file(report)), report, 1200)
        write_ssh(folder, board.port, key)
        yield Booted(board, bundle, folder, times_s)
    print("\n" + ", ".join(f"{step} {seconds:.0f} s" for step, seconds in times_s.items()))


def write_ssh(folder: Path, port: int, key: Path) -> None:
    """An ``ssh`` with a configuration of its own, which knows the board's host key."""
    known = subprocess.run(
        ["ssh-keyscan", "-T", "60", "-p", str(port), "127.0.0.1"], capture_output=True, check=True
    )
    assert known.stdout, known.stderr
    (folder / "known_hosts").write_bytes(known.stdout)
    (folder / "ssh_config").write_text(
        f"UserKnownHostsFile {folder}/known_hosts\nGlobalKnownHostsFile /dev/null\n"
        f"StrictHostKeyChecking yes\nIdentityFile {key}\nIdentitiesOnly yes\nIdentityAgent none\n"
    )
    ssh = folder / "programs/ssh"
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/ssh_config "$@"\n')
    ssh.chmod(0o755)


def test_the_first_boots_report_is_on_the_boot_partition(booted: Booted) -> None:
    data = booted.board.file("headgate/report.json")
    assert data is not None
    report = read_agent_report(data)
    bundle = Bundle.open(booted.bundle)
    assert report.bundle.model_sha256 == bundle.manifest["model_sha256"]
    assert report.outputs.passed is True
    assert report.latency.latency_us.median > 0
    assert len(report.latency.layers) == len(bundle.manifest["layers"])
    assert isinstance(report.energy, NotMeasured)
    said = booted.board.file("headgate/report.json.txt")
    # Why there is no energy, and the gist.
    assert said is not None and b"sensor" in said and NETWORK.encode() in said


def test_the_script_of_the_first_boot_is_gone(booted: Booted) -> None:
    assert booted.board.file("firstrun.sh") is None
    assert b"systemd.run" not in (booted.board.file("cmdline.txt") or b"systemd.run")


def test_profile_over_ssh_gives_the_hosts_outputs(booted: Booted) -> None:
    report = booted.folder / "profile.json"
    programs = booted.folder / "programs"
    printed = headgate("profile", booted.bundle, "--on", booted.address, "--json", path=programs)
    report.write_text(printed)
    on_board = json.loads(printed)
    bundle = Bundle.open(booted.bundle)
    _, (expected,) = bundle.vectors()
    assert json.dumps(on_board).count('"passed": true') >= 1
    verdicts = {}
    for machine in (booted.address, "qemu:rpi4"):
        text = headgate("validate", booted.bundle, "--on", machine, "--json", path=programs)
        verdicts[machine] = json.loads(text)
        assert verdicts[machine]["passed"] is True
        assert verdicts[machine]["samples"] == len(expected)
    # The same program on the same kind of CPU: not only close, but equal.
    errors = {verdict["max_error"] for verdict in verdicts.values()}
    assert len(errors) == 1
    outputs = {machine: booted.folder / f"{place}.npy" for place, machine in enumerate(verdicts)}
    for machine, file in outputs.items():
        headgate("run", booted.bundle, "--on", machine, "-o", file, path=programs)
    there, here = (np.load(file) for file in outputs.values())
    np.testing.assert_array_equal(there, here)


def test_the_network_stays_ready_as_a_service(booted: Booted) -> None:
    bundle = Bundle.open(booted.bundle)
    (inputs,), (expected,) = bundle.vectors()
    client = (
        "import socket, sys\n"
        "with socket.socket(socket.AF_UNIX) as service:\n"
        "    service.connect('/run/headgate/network.sock')\n"
        "    service.sendall(sys.stdin.buffer.read())\n"
        "    service.shutdown(socket.SHUT_WR)\n"
        "    while data := service.recv(65536):\n"
        "        sys.stdout.buffer.write(data)\n"
    )
    done = booted.ssh("python3", "-c", client, data=inputs.tobytes())
    assert done.returncode == 0, done.stderr
    outputs = np.frombuffer(done.stdout, "<f4").reshape(expected.shape)
    scale = float(np.abs(expected).max())
    assert np.abs(outputs - expected).max() <= 1e-4 * scale


def test_the_system_takes_the_whole_card(booted: Booted) -> None:
    size = int(booted.ssh("findmnt", "-bno", "SIZE", "/").stdout)
    assert size > 0.9 * (CARD_BYTES - ROOT_OFFSET)


def test_what_runs_there_is_unprivileged(booted: Booted) -> None:
    shown = booted.ssh("systemctl", "show", "-p", "User", "headgate-report.service")
    assert shown.stdout.strip() == b"User=headgate"
    ids = booted.ssh("id", "headgate").stdout.decode()
    assert re.search(r"uid=(?!0\b)\d+", ids)
    assert "sudo" not in ids
    owner = booted.ssh("stat", "-c", "%U", "/var/lib/headgate/report.json").stdout.strip()
    assert owner == b"headgate"
    assert booted.ssh("sudo", "-n", "true").returncode != 0
    assert booted.ssh("hostname").stdout.strip() == b"bench-1"
    failed = booted.ssh("systemctl", "list-units", "--failed", "--plain", "--no-legend").stdout
    assert failed == b""


def test_nobody_gets_in_without_the_key(booted: Booted) -> None:
    no_key = ("-o", "PubkeyAuthentication=no", "-v")
    refused = booted.ssh("true", options=no_key)
    assert refused.returncode == 255
    offered = re.findall(rb"Authentications that can continue: (.*)", refused.stderr)
    assert offered and set(offered[0].strip().split(b",")) == {b"publickey"}
    assert booted.ssh("true", options=("-l", "root")).returncode == 255


def test_no_account_has_a_password(booted: Booted) -> None:
    """Read from the card, past the board; -c because the board writes to it all the time."""
    shown = subprocess.run(
        ["debugfs", "-c", "-R", "cat /etc/shadow", f"{booted.board.card}?offset={ROOT_OFFSET}"],
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"},
    )
    accounts = dict(line.split(":")[:2] for line in shown.stdout.splitlines() if ":" in line)
    assert {"root", USER, "headgate"} <= set(accounts), shown.stderr
    assert {password[:1] for password in accounts.values()} <= {"*", "!"}


def test_the_base_image_has_no_host_key(base: Path) -> None:
    listed = subprocess.run(
        ["debugfs", "-R", "ls -p /etc/ssh", f"{base}?offset={ROOT_OFFSET}"],
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"},
    )
    assert "sshd_config" in listed.stdout, listed.stderr
    assert "ssh_host" not in listed.stdout
