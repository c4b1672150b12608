"""One connection to a board, shared by all that is done over it.

It is OpenSSH as a program. The first ``ssh`` stays as the master that the others go through. It
lives no longer than this process: it runs ``cat`` on the board, whose input ends with us.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from headgate.device.machines.ssh.address import Address
from headgate.device.machines.ssh.failures import SSH_FAILED, command_error, connection_error
from headgate.device.machines.ssh.stopping import current_stopper, end_group
from headgate.errors import DeviceError, ToolMissing

CONNECT_S = 60.0
"""For all of it: jump hosts, and a security key that wants to be touched."""

# A line before what a script prints: some people's shells greet even programs.
_MARK = b"headgate-output-begins"
_PREAMBLE = f"export LC_ALL=C; echo {_MARK.decode()}; "
_PLAIN = frozenset(range(ord(" "), 0x7F)) - frozenset(b"!'\\")
_OPTIONS = {
    "BatchMode": "yes",  # never a question that nobody sees
    "ConnectTimeout": "20",
    # A board that is unplugged is noticed after half a minute of silence.
    "ServerAliveInterval": "10",
    "ServerAliveCountMax": "3",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "RemoteCommand": "none",
    "PermitLocalCommand": "no",
    "LogLevel": "ERROR",
}
# What a user may have for tunnels, and leaves us without a session; known to OpenSSH 8.7 and newer.
_NEWER_OPTIONS = {"SessionType": "default", "StdinNull": "no", "ForkAfterAuthentication": "no"}
# A socket's path may have 108 bytes, and ssh appends 17 while it makes it.
_LONGEST_FOLDER = 60


@dataclass(frozen=True)
class Answer:
    status: int
    output: bytes
    stderr: str


class Connection:
    """A connection to a board, made at once. Closed by :meth:`close` or with the object's end.

    Raises:
        ToolMissing: OpenSSH is not installed.
        DeviceError: the board cannot be reached, is not the one that ssh knows, or refuses us.
    """

    def __init__(self, name: str, address: Address) -> None:
        self.name = name
        self.address = address
        self._stopper = current_stopper()
        self._stopper.check(name)
        program = shutil.which("ssh")
        if program is None:
            raise ToolMissing(f"board {name} needs OpenSSH: sudo apt install openssh-client")
        # Private: mkdtemp makes it 0700, and who can use the socket is on the board.
        usual = tempfile.gettempdir()
        parent = usual if len(usual) <= _LONGEST_FOLDER else "/tmp"
        self._folder = Path(tempfile.mkdtemp(prefix="headgate-", dir=parent))
        options = [*_words(_OPTIONS), *_newer_options(program)]
        port = [] if address.port is None else ["-p", str(address.port)]
        # ssh expands per cent signs in this path.
        socket = str(self._folder / "s").replace("%", "%%")
        self._command = [program, "-T", *options, *port, "-S", socket]
        self._master, self._stop = self._connect()

    def _connect(self) -> tuple[subprocess.Popen[bytes], weakref.finalize]:
        with (self._folder / "stderr").open("wb") as stderr:
            command = [*self._command, "-o", "ControlMaster=yes", "-o", "ControlPersist=no"]
            script = shell_command("exec cat >/dev/null")
            # In a session of its own, so that an interrupt at the terminal ends what runs over
            # the connection, and the connection only after that.
            master = subprocess.Popen(
                [*command, "--", self.address.destination, script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        stop = weakref.finalize(self, _end, master, self._folder)
        self._stopper.add(master, group=True)
        hanging = threading.Event()

        def give_up() -> None:
            hanging.set()
            end_group(master, signal.SIGKILL)

        timer = threading.Timer(CONNECT_S, give_up)
        timer.start()
        try:
            assert master.stdout is not None
            ready = any(_MARK in line for line in master.stdout)
        except BaseException:
            end_group(master, signal.SIGTERM)
            stop()
            raise
        finally:
            timer.cancel()
        if not ready:
            master.wait()
            words = (self._folder / "stderr").read_text(errors="replace")
            stop()
            self._stopper.check(self.name)
            if hanging.is_set():
                words = f"no answer within {CONNECT_S:.0f} s"
            raise connection_error(self.name, self.address, words, lost=False)
        return master, stop

    @property
    def alive(self) -> bool:
        """Whether there still is a connection, as far as ssh has noticed."""
        return self._stop.alive and self._master.poll() is None

    def close(self) -> None:
        """End the connection; closing twice is harmless."""
        self._stop()

    def call(
        self,
        script: str,
        *arguments: str,
        stdin: bytes | Iterable[bytes] = b"",
        hold: bool = False,
    ) -> Answer:
        """Run a script of the board's ``sh`` with arguments ``$1``, ``$2``, ...

        Args:
            script: constant text; what varies goes into ``arguments``, which are quoted.
            stdin: what it can read; parts are sent as they are taken from an iterable.
            hold: keep its input open until it ends, so that it can notice when we are gone.

        Raises:
            DeviceError: the connection is lost. The script's own failure is in the answer.
        """
        command = shell_command(script, *arguments)
        mux = [*self._command, "-o", "ControlMaster=no", "--", self.address.destination, command]
        parts = [stdin] if isinstance(stdin, bytes) else stdin
        self._stopper.check(self.name)
        # Files, not pipes: neither side can wait for the other.
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            with subprocess.Popen(mux, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr) as ssh:
                assert ssh.stdin is not None
                self._stopper.add(ssh, group=False)
                try:
                    _send(parts, ssh.stdin)
                    if not hold:
                        _close(ssh.stdin)
                    status = ssh.wait()
                except BaseException:
                    ssh.kill()
                    raise
                finally:
                    _close(ssh.stdin)
            output, words = _contents(stdout), _contents(stderr).decode(errors="replace")
        self._stopper.check(self.name)
        if status == SSH_FAILED or status < 0:
            raise connection_error(self.name, self.address, words, lost=True)
        _, mark, rest = output.partition(_MARK + b"\n")
        if not mark:
            raise DeviceError(
                f"{self.name} does not run commands: {words.strip() or 'its shell says nothing'}; "
                f"try: ssh {self.address.destination} true"
            )
        return Answer(status, rest, words)

    def checked(self, action: str, script: str, *arguments: str) -> bytes:
        """What a script prints; ``action`` says in messages what it does ("look at the disk").

        Its failure is an error, too: a StorageError if the disk is full, or cannot be written.
        """
        answer = self.call(script, *arguments)
        if answer.status:
            raise command_error(self.name, action, answer.status, answer.stderr)
        return answer.output


def _words(options: Mapping[str, str]) -> list[str]:
    return [word for item in options.items() for word in ("-o", "=".join(item))]


@cache
def _newer_options(program: str) -> list[str]:
    """Words for what this ssh knows of the newer options: all or none.

    Asked of ssh, as ``IgnoreUnknown`` would take the place of the user's own.
    """
    words = _words(_NEWER_OPTIONS)
    asked = subprocess.run(
        [program, *words, "-V"], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return [] if asked.returncode else words


def shell_command(script: str, *arguments: str) -> str:
    """A command that runs a script in ``sh``, whatever the login shell that is given it.

    The script is a word in single quotes, without what is special there in any shell: a line
    break or ``!`` in csh, a backslash before another or a quote in fish. Those, and all that is
    not ASCII, go as the octal escapes of ``printf %b``.
    """
    words = shlex.join(["set", "--", *arguments])
    code = f"{_PREAMBLE}{words}\n{script}".encode()
    escaped = "".join(chr(byte) if byte in _PLAIN else f"\\0{byte:03o}" for byte in code)
    return f"sh -c 'eval \"$(printf %b \"$1\")\"' sh '{escaped}'"


def _send(parts: Iterable[bytes], stdin: IO[bytes]) -> None:
    # Broken: the script ended early, and says why in its answer.
    with contextlib.suppress(BrokenPipeError):
        for part in parts:
            stdin.write(part)
        stdin.flush()


def _close(stdin: IO[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):
        stdin.close()


def _contents(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _end(master: subprocess.Popen[bytes], folder: Path) -> None:
    """Let the master end by itself, which says goodbye to the board; soon, or at once."""
    assert master.stdin is not None and master.stdout is not None
    _close(master.stdin)
    try:
        master.wait(timeout=2)
    except subprocess.TimeoutExpired:
        end_group(master, signal.SIGKILL)
        master.wait()
    master.stdout.close()
    shutil.rmtree(folder, ignore_errors=True)
