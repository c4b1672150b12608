"""ssh as a program: what it is given, what its failures are called, what it leaves behind."""

from __future__ import annotations

import re
import shlex
import shutil
import time
from contextlib import closing
from pathlib import Path

import pytest

from headgate.device.machines.ssh import connection as connection_module
from headgate.device.machines.ssh.address import Address
from headgate.device.machines.ssh.connection import Connection, shell_command
from headgate.errors import DeviceError, StorageError, ToolMissing, UsageError
from tests import fake_ssh


@pytest.fixture
def boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fake_ssh.Boards:
    return fake_ssh.install(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("text", "host", "user", "port"),
    [
        ("kitchen", "kitchen", None, None),
        ("pi@kitchen.local", "kitchen.local", "pi", None),
        ("pi@kitchen.local:2222", "kitchen.local", "pi", 2222),
        ("pi@10.0.0.7:22", "10.0.0.7", "pi", 22),
        ("pi@fe80::1%eth0", "fe80::1%eth0", "pi", None),
        ("pi@[fe80::1]:2222", "fe80::1", "pi", 2222),
        ("pi@[fe80::1]", "fe80::1", "pi", None),
    ],
)
def test_addresses(text: str, host: str, user: str | None, port: int | None) -> None:
    assert Address.parse(text) == Address(host, user, port)
    assert Address.parse(str(Address.parse(text))) == Address(host, user, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pi@",
        "@kitchen",
        "-oProxyCommand=touch",
        "pi@-oProxyCommand=touch",
        "-l@kitchen",
        "pi@kitchen;reboot",
        "pi@kitchen house",
        "pi@$(reboot)",
        "pi@kitchen\n",
        "pi@kitchen:0",
        "pi@kitchen:65536",
        "pi@kitchen:ssh/",
    ],
)
def test_what_is_no_address_never_reaches_ssh(text: str) -> None:
    with pytest.raises(UsageError):
        Address.parse(text)


def test_the_users_own_ssh_with_what_a_program_needs(boards: fake_ssh.Boards) -> None:
    boards.add("kitchen")
    with closing(Connection("kitchen", Address("kitchen", "pi", 2222))) as connection:
        connection.call("true")
    for call in boards.calls():
        options, destination = call[: call.index("--")], call[call.index("--") + 1]
        assert destination == "pi@kitchen"
        assert "BatchMode=yes" in options
        assert options[options.index("-p") + 1] == "2222"
        # Configuration, keys, jump hosts and host keys are the user's business and ssh's.
        assert not {"-F", "-i", "-J"} & set(options)
        assert not any("HostKey" in word or "KnownHosts" in word for word in options)


@pytest.mark.parametrize("old", [True, False])
def test_options_that_only_a_newer_ssh_knows(boards: fake_ssh.Boards, old: bool) -> None:
    boards.add("kitchen")
    if old:
        boards.has_old_ssh()
    with closing(Connection("kitchen", Address("kitchen"))) as connection:
        connection.call("true")
    for call in boards.calls():
        assert ("SessionType=default" in call) == ("StdinNull=no" in call) == (not old)
        # The user's own holds: it may be all that makes the configuration readable.
        assert not any("IgnoreUnknown" in word for word in call)


def test_arguments_arrive_as_they_are(boards: fake_ssh.Boards, tmp_path: Path) -> None:
    boards.add("kitchen")
    words = ["$HOME", "`id`", "a b", "it's", '"', "\\", "", "*", "line\nbreak", "ü", "-n"]
    with closing(Connection("kitchen", Address("kitchen"))) as connection:
        answer = connection.call('for word; do printf "%s\\0" "$word"; done', *words)
    assert answer.output.decode().split("\0") == [*words, ""]


def test_nothing_in_a_command_is_special_to_any_login_shell() -> None:
    """No line break and no ``!``, which csh does not leave alone even in single quotes."""
    command = shell_command("cat\n[ ! -e x ] || exit", "line\nbreak", "!!", "it's", "\\'", "ü")
    *start, script = shlex.split(command)
    assert start == ["sh", "-c", 'eval "$(printf %b "$1")"', "sh"]
    assert command.isascii() and command.isprintable() and "!" not in command
    assert "'" not in script and not re.search(r"\\(?!0[0-7]{3})", script)


@pytest.mark.parametrize("shell", ["tcsh", "csh", "fish", "bash", "busybox sh", "zsh"])
def test_a_login_shell_of_the_users_choice(boards: fake_ssh.Boards, shell: str) -> None:
    program, *options = shell.split()
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed: sudo apt install {program}")
    boards.add("kitchen")
    boards.has_login_shell("kitchen", [path, *options])
    words = ["$HOME", "a b", "it's", "\\", "\\n", "%d", "", "*", "line\nbreak", "!!", "ü", "~"]
    with closing(Connection("kitchen", Address("kitchen"))) as connection:
        answer = connection.call('for word; do printf "%s\\0" "$word"; done\nexit 7', *words)
    assert answer.output.decode().split("\0") == [*words, ""]
    assert answer.status == 7


def test_output_is_told_from_the_greeting_of_a_shell(boards: fake_ssh.Boards) -> None:
    boards.add("kitchen")
    boards.greets("kitchen", "Welcome to the kitchen")
    with closing(Connection("kitchen", Address("kitchen"))) as connection:
        answer = connection.call("cat; echo more >&2; exit 7", stdin=b"\0\1binary\xff")
    assert (answer.status, answer.output, answer.stderr) == (7, b"\0\1binary\xff", "more\n")


def test_a_shell_that_runs_nothing(boards: fake_ssh.Boards, tmp_path: Path) -> None:
    boards.add("kitchen")
    boards.has_programs("kitchen", tmp_path)  # no sh, not even that
    with pytest.raises(DeviceError, match="cannot reach kitchen"):
        Connection("kitchen", Address("kitchen"))


@pytest.mark.parametrize(
    ("stderr", "words"),
    [
        (
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            r"host key of kitchen .*is not the one.*ssh-keygen -R '\[10.0.0.7\]:2222'",
        ),
        (
            # Of a jump host, with a file of its own.
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\n"
            "Offending ED25519 key in /home/me/known hosts:7\n"
            "Host key for [gate.example]:443 has changed and you have requested strict checking.\n"
            "Host key verification failed.\nConnection closed by UNKNOWN port 65535",
            r"host key of kitchen \(\[gate.example\]:443\) is not the one.*ssh-keygen "
            r"-f '/home/me/known hosts' -R '\[gate.example\]:443', then ssh -p 2222 pi@10.0.0.7",
        ),
        (
            "No ED25519 host key is known for [10.0.0.7]:2222\nHost key verification failed.",
            "does not know the host key of kitchen yet: connect once with ssh -p 2222 pi@10.0.0.7",
        ),
        ("pi@10.0.0.7: Permission denied (publickey).", "none of your keys.*ssh-copy-id -p 2222"),
        ("ssh: Could not resolve hostname 10.0.0.7: Name or service not known", "no host '10.0"),
        ("ssh: connect to host 10.0.0.7 port 2222: Connection refused", "refused.*switched on"),
        ("ssh: connect to host 10.0.0.7 port 2222: Connection timed out", "timed out.*network"),
        ("", "the connection closed"),
    ],
)
def test_why_there_is_no_connection(boards: fake_ssh.Boards, stderr: str, words: str) -> None:
    boards.refuses("10.0.0.7", stderr)
    with pytest.raises(DeviceError, match=words) as caught:
        Connection("kitchen", Address("10.0.0.7", "pi", 2222))
    assert "\n" not in str(caught.value)


def test_a_board_that_never_answers(
    boards: fake_ssh.Boards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "programs/ssh").write_text(
        '#!/bin/sh\ncase "$*" in *-V) exit 0;; esac\nexec sleep 3600\n'
    )
    monkeypatch.setattr(connection_module, "CONNECT_S", 0.2)
    with pytest.raises(DeviceError, match="no answer within"):
        Connection("kitchen", Address("kitchen"))


def test_no_ssh_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolMissing, match="apt install openssh-client"):
        Connection("kitchen", Address("kitchen"))


def test_a_connection_that_is_lost(boards: fake_ssh.Boards) -> None:
    boards.add("kitchen")
    with closing(Connection("kitchen", Address("kitchen"))) as connection:
        boards.drops_off_after("kitchen", 10)
        with pytest.raises(DeviceError, match=r"kitchen dropped off .*Broken pipe.*Repeat"):
            connection.call("cat", stdin=b"." * 100)


@pytest.mark.parametrize(
    ("complaint", "error", "words"),
    [
        ("tar: x: Cannot write: No space left on device", StorageError, "no space left"),
        ("mkdir: cannot create directory: Read-only file system", StorageError, "is read-only"),
        ("mkdir: cannot create directory '/r': Permission denied", StorageError, "no permission"),
        ("something else", DeviceError, "cannot look on kitchen: something else"),
    ],
)
def test_what_fails_on_the_board(
    boards: fake_ssh.Boards, complaint: str, error: type[Exception], words: str
) -> None:
    boards.add("kitchen")
    with (
        closing(Connection("kitchen", Address("kitchen"))) as connection,
        pytest.raises(error, match=words),
    ):
        connection.checked("look", f"echo {shlex.quote(complaint)} >&2; exit 1")


def test_nothing_is_left_after_it(boards: fake_ssh.Boards, tmp_path: Path) -> None:
    boards.add("kitchen")
    connection = Connection("kitchen", Address("kitchen"))
    folder, master = connection._folder, connection._master
    assert connection.alive
    assert folder.stat().st_mode & 0o777 == 0o700
    connection.close()
    connection.close()
    assert not connection.alive and not folder.exists() and master.poll() is not None


def test_the_master_ends_with_the_process_that_made_it(boards: fake_ssh.Boards) -> None:
    """Even when nobody could say goodbye: its input ends, and with it `cat` on the board."""
    boards.add("kitchen")
    connection = Connection("kitchen", Address("kitchen"))
    assert connection._master.stdin is not None
    connection._master.stdin.close()  # what the kernel does to the pipe of a dead process
    deadline = time.monotonic() + 300
    while connection._master.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert connection._master.poll() is not None
    connection.close()
