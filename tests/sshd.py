"""A real OpenSSH server of the test's own: its port, host key, user key and home.

Nothing of the machine's ssh is used or touched. It runs as whoever runs the test, who can log in
as himself, with a home in a temporary folder.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

INSTALL = "sudo apt install openssh-server openssh-client"


class Server:
    """A running server, and the ``ssh`` that knows it, in ``programs``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        (self.home / "tmp").mkdir(parents=True)
        self.port = _free_port()
        self.user = getpass.getuser()
        _make_key(folder / "user_key")
        _make_key(folder / "host_key")
        shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
        self.knows(folder / "host_key.pub")
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\n"
            f"AuthorizedKeysFile {folder}/authorized_keys\nPidFile {folder}/pid\n"
            # The folders above are not root's alone, as StrictModes wants them to be.
            f"StrictModes no\nUsePAM no\nPasswordAuthentication no\n"
            f"KbdInteractiveAuthentication no\nSetEnv HOME={self.home} TMPDIR={self.home}/tmp\n"
        )
        (folder / "ssh_config").write_text(
            f"UserKnownHostsFile {folder}/known_hosts\nGlobalKnownHostsFile /dev/null\n"
            f"IdentityFile {folder}/user_key\nIdentitiesOnly yes\nIdentityAgent none\n"
            f"Host board\n HostName 127.0.0.1\n Port {self.port}\n User {self.user}\n"
            f"Host behind\n HostName 127.0.0.1\n Port {self.port}\n User {self.user}\n"
            f" ProxyJump board\n"
        )
        self.programs = folder / "programs"
        self.programs.mkdir()
        ssh = self.programs / "ssh"
        # What a user has in ~/.ssh; jumping starts ssh again, which reads the same.
        ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/ssh_config "$@"\n')
        ssh.chmod(0o755)

    @property
    def address(self) -> str:
        """For ``--on``."""
        return f"{self.user}@127.0.0.1:{self.port}"

    def knows(self, public_key: Path) -> None:
        """The user's known_hosts say that this is the server's key."""
        kind, key, *_ = public_key.read_text().split()
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")

    def start(self) -> None:
        """Listen."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(_sshd()), "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", self.port)):
                    return
            assert self._process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.05)
        raise AssertionError("sshd does not listen")

    def drop(self) -> None:
        """End all connections as a pulled cable does not: at once, without a word."""
        for child in self._descendants(self._process.pid):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    def stop(self) -> None:
        """Listen no more, and end all connections."""
        self.drop()
        self._process.kill()
        self._process.wait()

    def _descendants(self, parent: int) -> list[int]:
        """Its sessions' processes: those of sshd, not what runs in them."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                pid, rest = stat.read_text().split(" (", 1)
            except OSError:
                continue
            name, fields = rest.rsplit(") ", 1)
            if int(fields.split()[1]) == parent and name.startswith("sshd"):
                found += [*self._descendants(int(pid)), int(pid)]
        return found


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    """A server; skips the test where OpenSSH is not installed."""
    if not _sshd().exists() or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        pytest.skip(f"OpenSSH's server is not installed: {INSTALL}")
    if os.geteuid() == 0:
        # Where sshd of root puts children without rights; init makes it on a real machine.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    made = Server(folder)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def _sshd() -> Path:
    return Path(shutil.which("sshd", path=f"/usr/sbin:{os.environ['PATH']}") or "/usr/sbin/sshd")


def _make_key(path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
