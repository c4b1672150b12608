"""An `ssh` whose boards are folders: commands run here, with the folder as home.

It takes the same command line as OpenSSH's and ends as it does. What goes wrong on a board is
said by methods of :class:`Boards`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

_PROGRAM = """#!{python} -IS
import json, os, pathlib, subprocess, sys, time

boards = pathlib.Path({folder!r})
words = sys.argv[1:]
if words[-1] == "-V":
    sys.exit(255 if "SessionType=default" in words and (boards / "old").exists() else 0)
split = words.index("--")
destination, command = words[split + 1 :]
host = destination.rpartition("@")[2]
with open(boards / "calls", "a") as calls:
    calls.write(json.dumps(words) + "\\n")
says, cut, program = (boards / f"{{host}}.{{what}}" for what in ("says", "cut", "path"))
if (boards / f"{{host}}.forever").exists():
    (boards / f"{{host}}.forever").write_text(str(os.getpid()))
    time.sleep(3600)
if says.exists() or not (boards / host).is_dir():
    text = says.read_text() if says.exists() else f"ssh: connect to host {{host}}: No route to host"
    print(text, file=sys.stderr)
    sys.exit(255)
login = boards / f"{{host}}.shell"
shell = json.loads(login.read_text()) if login.exists() else ["/bin/sh"]
path = program.read_text() if program.exists() else os.environ["PATH"]
env = {{"HOME": str(boards / host), "PATH": path, "TMPDIR": str(boards / f"{{host}}.tmp")}}
greeting = boards / f"{{host}}.greeting"
if greeting.exists():
    print(greeting.read_text(), flush=True)
if not cut.exists() or "ControlMaster=yes" in words:
    sys.exit(subprocess.run([*shell, "-c", command], env=env).returncode)
left = int(cut.read_text())
with subprocess.Popen([*shell, "-c", command], env=env, stdin=subprocess.PIPE) as board:
    while part := os.read(0, min(left, 4096) or 1):
        if not left:
            board.stdin.close()
            board.wait()
            print("client_loop: send disconnect: Broken pipe", file=sys.stderr)
            sys.exit(255)
        board.stdin.write(part)
        board.stdin.flush()
        left -= len(part)
sys.exit(board.returncode)
"""


class Boards:
    """Boards that the fake ssh reaches, by host."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, host: str) -> Path:
        """A board that works; its home."""
        for name in (host, f"{host}.tmp"):
            (self.folder / name).mkdir()
        return self.folder / host

    def temporary(self, host: str) -> list[str]:
        """What lies in its folder for temporary files."""
        return os.listdir(self.folder / f"{host}.tmp")

    def refuses(self, host: str, stderr: str) -> None:
        """ssh fails, and says this."""
        (self.folder / f"{host}.says").write_text(stderr)

    def takes_forever(self, host: str) -> None:
        """ssh neither connects nor fails."""
        (self.folder / f"{host}.forever").write_text("")

    def waiting(self, host: str) -> bool:
        """Whether an ssh is there that takes forever."""
        pid = (self.folder / f"{host}.forever").read_text()
        return bool(pid) and Path("/proc", pid).exists()

    def drops_off_after(self, host: str, count: int | None) -> None:
        """Each command loses its connection when so many bytes have gone there; None: never."""
        cut = self.folder / f"{host}.cut"
        cut.unlink() if count is None else cut.write_text(str(count))

    def greets(self, host: str, text: str) -> None:
        """Its shell prints this before anything else."""
        (self.folder / f"{host}.greeting").write_text(text)

    def has_programs(self, host: str, path: str | Path) -> None:
        """Its PATH is this."""
        (self.folder / f"{host}.path").write_text(str(path))

    def has_login_shell(self, host: str, command: list[str]) -> None:
        """What its user has in place of sh."""
        (self.folder / f"{host}.shell").write_text(json.dumps(command))

    def has_old_ssh(self) -> None:
        """ssh is older than 8.7, and refuses options that it does not know."""
        (self.folder / "old").touch()

    def calls(self) -> list[list[str]]:
        """Command lines of ssh until now."""
        return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Boards:
    """Put the fake before the real ssh."""
    programs, boards = folder / "programs", folder / "boards"
    programs.mkdir()
    boards.mkdir()
    ssh = programs / "ssh"
    ssh.write_text(_PROGRAM.format(python=sys.executable, folder=str(boards)))
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    # No inventory of the user's, and none in the folder that the tests are run from.
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    (folder / "work").mkdir()
    monkeypatch.chdir(folder / "work")
    return Boards(boards)
