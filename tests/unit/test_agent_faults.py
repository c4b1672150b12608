"""What the agent does where it is given a device for a file, or a disk without room."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from headgate.device.agent.__main__ import main
from headgate.device.agent.bundle import open_bundle
from headgate.device.agent.errors import AgentError
from headgate.device.agent.report import write
from headgate.device.agent.runner import Network
from headgate.device.agent_archive import agent_archive
from tests.fake_runner import save_bundle


@pytest.mark.parametrize("linked", [False, True])
def test_a_report_goes_into_a_pipe_and_not_into_its_place(linked: bool, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    path = pipe
    if linked:
        path = tmp_path / "link"
        path.symlink_to(pipe)
    received = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()), daemon=True)
    reader.start()
    write({"schema": 1}, str(path))
    reader.join(5)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert json.loads(received[0]) == {"schema": 1}
    assert len(list(tmp_path.iterdir())) == 1 + linked


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_root_does_not_replace_a_device(tmp_path: Path) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        device.write_text("")
    except OSError:
        pytest.skip("no devices in this file system")
    write({"schema": 1}, str(device))
    assert stat.S_ISCHR(device.stat().st_mode)


def test_a_report_in_the_place_of_a_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match=f"cannot write {tmp_path}: Is a directory$"):
        write({"schema": 1}, str(tmp_path))
    with pytest.raises(AgentError, match=r"cannot write .*: Not a directory$"):
        (tmp_path / "file").write_text("")
        write({"schema": 1}, str(tmp_path / "file" / "report.json"))


def full(*_: object, **__: object) -> str:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/var/tmp/headgate-abc")


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_bundle(tmp_path / "fake.hgb")
    bundle = open_bundle(tmp_path / "fake.hgb")
    expected = "cannot make a temporary folder.*: No space left on device; set TMPDIR"
    with Network(bundle) as network:
        monkeypatch.setattr(tempfile, "mkdtemp", full)
        with pytest.raises(AgentError, match=expected) as raised:
            network.run()
        assert "\n" not in str(raised.value)
    with pytest.raises(AgentError, match=expected):
        Network(bundle)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_behind_standard_output_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "agent.pyz").write_bytes(agent_archive())
    with open("/dev/full", "wb") as full:
        command = [sys.executable, tmp_path / "agent.pyz", "context"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "headgate-agent: cannot write to standard output: No space left on device\n"
    )


def test_stopped_while_the_context_is_read_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_bundle(tmp_path / "network.hgb")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", None)

    def stop(system: object) -> None:
        assert list(scratch.iterdir())
        raise SystemExit(143)

    monkeypatch.setattr("headgate.device.agent.session.read_context", stop)
    with pytest.raises(SystemExit):
        main(["run", str(tmp_path / "network.hgb")])
    assert list(scratch.iterdir()) == []
