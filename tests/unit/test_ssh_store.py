"""Copying to a board: whole or not at all, once, from where it ended."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from headgate.device.machines.ssh import store as store_module
from headgate.device.machines.ssh.address import Address
from headgate.device.machines.ssh.connection import Connection
from headgate.device.machines.ssh.store import KEPT_DAYS, Item, store
from headgate.errors import DeviceError, StorageError, ToolMissing
from tests import fake_ssh

DATA = os.urandom(300_000)


@pytest.fixture
def boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fake_ssh.Boards:
    return fake_ssh.install(tmp_path, monkeypatch)


@pytest.fixture
def home(boards: fake_ssh.Boards) -> Path:
    return boards.add("kitchen")


@pytest.fixture
def connection(home: Path) -> Iterator[Connection]:
    with closing(Connection("kitchen", Address("kitchen"))) as connection:
        yield connection


def kept(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (home / ".cache/headgate").iterdir()}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_second_time_nothing_is_copied(connection: Connection, home: Path) -> None:
    items = [Item(DATA), Item(b"#!/bin/sh\n", executable=True)]
    first, second = store(connection, items), store(connection, items)
    assert [stored.copied_bytes for stored in first] == [300_000, 10]
    assert [stored.copied_bytes for stored in second] == [0, 0]
    assert [stored.path for stored in first] == [stored.path for stored in second]
    assert kept(home) == {item.sha256: item.data for item in items}
    assert [os.access(stored.path, os.X_OK) for stored in first] == [False, True]


def test_an_interrupted_copy_goes_on_where_it_ended(
    connection: Connection, home: Path, boards: fake_ssh.Boards
) -> None:
    boards.drops_off_after("kitchen", 100_000)
    with pytest.raises(DeviceError, match="dropped off"):
        store(connection, [Item(DATA)])
    assert kept(home) == {f"{sha256(DATA)}.part": DATA[:100_000]}
    with pytest.raises(DeviceError, match="dropped off"):
        store(connection, [Item(DATA)])
    boards.drops_off_after("kitchen", None)
    seen: list[tuple[int, int]] = []
    (stored,) = store(connection, [Item(DATA)], lambda *sent: seen.append(sent))
    assert stored.copied_bytes == 100_000
    assert seen == [(300_000, 300_000)]
    assert kept(home) == {sha256(DATA): DATA}


def test_two_copies_at_once_do_not_mix(connection: Connection, home: Path) -> None:
    # Slow enough to be there for long, and never without a byte for so long that it counts as over.
    item, begun, refused = Item(os.urandom(1 << 26)), threading.Event(), threading.Event()

    def slowly(sent: int, total: int) -> None:
        begun.set()
        refused.wait(1.0)

    with ThreadPoolExecutor() as pool:
        first = pool.submit(store, connection, [item], slowly)
        assert begun.wait(300)
        with pytest.raises(DeviceError, match="someone else is copying the same file to kitchen"):
            store(connection, [item])
        refused.set()
        assert first.result()[0].copied_bytes == len(item.data)
    assert kept(home) == {item.sha256: item.data}


@contextmanager
def holder(home: Path, item: Item, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has the lock, with half of the file there."""
    folder = home / ".cache/headgate"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{item.sha256}.part").write_bytes(item.data[:1000])
    with subprocess.Popen(["sh", "-c", "sleep 60; true", *words]) as process:
        (folder / f"{item.sha256}.lock").symlink_to(str(process.pid))
        yield process
        process.kill()


def test_a_lock_of_a_copy_that_is_over_locks_nothing(connection: Connection, home: Path) -> None:
    item = Item(DATA)
    with holder(home, item, item.sha256) as process:
        process.kill()
        process.wait()
        assert store(connection, [item])[0].copied_bytes == len(DATA) - 1000
    assert kept(home) == {item.sha256: DATA}
    # After a restart of the board, a number is someone else's.
    item = Item(DATA[::-1])
    with holder(home, item, "something else") as process:
        assert store(connection, [item])[0].copied_bytes == len(DATA) - 1000
        assert process.poll() is None


def test_what_arrived_since_it_was_looked_at(connection: Connection, home: Path) -> None:
    """Another copy ends meanwhile, or ours of before, whose last bytes were on their way."""
    item = Item(DATA)
    part = home / f".cache/headgate/{item.sha256}.part"
    with holder(home, item, item.sha256) as process:

        def arrive() -> None:
            time.sleep(0.5)
            process.kill()
            process.wait()
            part.write_bytes(DATA[:2000])

        thread = threading.Thread(target=arrive)
        thread.start()
        (stored,) = store(connection, [item])
        thread.join()
    assert stored.copied_bytes == len(DATA) - 2000
    assert kept(home) == {item.sha256: DATA}


def test_a_copy_that_does_not_move_is_continued(
    connection: Connection, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "STALLED_S", 2)
    item = Item(DATA)
    part = home / f".cache/headgate/{item.sha256}.part"
    with holder(home, item, item.sha256) as process, part.open("ab") as late:
        assert store(connection, [item])[0].copied_bytes == len(DATA) - 1000
        late.write(b"what was still on its way")
        assert process.wait(10)
    assert kept(home) == {item.sha256: DATA}


@pytest.mark.parametrize("program", [None, "openssl", "shasum", "busybox"])
def test_a_board_without_sha256sum(
    boards: fake_ssh.Boards, home: Path, tmp_path: Path, program: str | None
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    needed = "cat sh mkdir find wc df tail awk touch chmod sync mv rm ln readlink grep sleep cp"
    for name in [*needed.split(), *([program] if program else [])]:
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"{name} is not installed")
        (programs / name).symlink_to(path)
    boards.has_programs("kitchen", programs)
    with closing(Connection("kitchen", Address("kitchen"))) as connection:
        if program is None:
            with pytest.raises(ToolMissing, match=r"kitchen has no sha256sum.*apt install"):
                store(connection, [Item(DATA)])
            return
        assert [store(connection, [Item(DATA)])[0].copied_bytes for _ in range(2)] == [len(DATA), 0]
    assert kept(home) == {sha256(DATA): DATA}


def test_a_copy_that_was_altered_on_its_way_is_not_kept(connection: Connection, home: Path) -> None:
    folder = home / ".cache/headgate"
    folder.mkdir(parents=True)
    (folder / f"{sha256(DATA)}.part").write_bytes(b"x" + DATA[1:1000])
    with pytest.raises(DeviceError, match="not what was sent, and was removed"):
        store(connection, [Item(DATA)])
    assert kept(home) == {}
    store(connection, [Item(DATA)])
    assert kept(home) == {sha256(DATA): DATA}


def test_more_than_was_sent_is_not_kept_either(connection: Connection, home: Path) -> None:
    folder = home / ".cache/headgate"
    folder.mkdir(parents=True)
    (folder / f"{sha256(DATA)}.part").write_bytes(DATA + b"x")
    with pytest.raises(DeviceError, match="not what was sent"):
        store(connection, [Item(DATA)])
    assert kept(home) == {}


def test_a_file_that_was_altered_there_is_copied_again(connection: Connection, home: Path) -> None:
    (stored,) = store(connection, [Item(DATA)])
    Path(stored.path).write_bytes(DATA[:-1])
    (again,) = store(connection, [Item(DATA)])
    assert again.copied_bytes == len(DATA)
    assert kept(home) == {sha256(DATA): DATA}


def test_no_space_for_it_is_said_before_anything_is_sent(
    boards: fake_ssh.Boards, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "df").write_text("#!/bin/sh\necho Filesystem\necho /dev/mmcblk0p2 9 0 9 0% /\n")
    (tmp_path / "df").chmod(0o755)
    boards.has_programs("kitchen", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    words = "cannot copy 300,000 bytes to kitchen: 9,216 are free"
    with (
        closing(Connection("kitchen", Address("kitchen"))) as connection,
        pytest.raises(StorageError, match=words),
    ):
        store(connection, [Item(DATA)])
    assert kept(home) == {}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_disk_that_fills_up_meanwhile(connection: Connection, home: Path) -> None:
    folder = home / ".cache/headgate"
    folder.mkdir(parents=True)
    (folder / "other").write_bytes(b"stays")
    (folder / f"{sha256(DATA)}.part").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="no space left on its disk; free some and repeat"):
        store(connection, [Item(DATA)])
    assert kept(home) == {"other": b"stays"}


def test_a_home_that_is_not_ours_to_write(connection: Connection, home: Path) -> None:
    (home / ".cache").write_text("a file")
    with pytest.raises(DeviceError, match="cannot look for files on kitchen: mkdir"):
        store(connection, [Item(DATA)])


def test_what_nobody_used_for_long_is_removed(connection: Connection, home: Path) -> None:
    old, used, young = (Item(data) for data in (b"old", b"used", b"young"))
    long_ago = time.time() - (KEPT_DAYS + 2) * 86400
    for stored in store(connection, [old, used]):
        os.utime(stored.path, (long_ago, long_ago))
    os.utime(home / ".cache/headgate" / used.sha256)
    store(connection, [young])
    assert set(kept(home)) == {used.sha256, young.sha256}
    # Using a file is using it, however old it is.
    os.utime(home / ".cache/headgate" / used.sha256, (long_ago + 86400 * 20,) * 2)
    store(connection, [used])
    assert time.time() - (home / ".cache/headgate" / used.sha256).stat().st_mtime < 3600
