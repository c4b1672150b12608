"""atomic_write: whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from headgate.device import atomic_write
from headgate.errors import BundleError, StorageError


def test_writes_and_leaves_no_other_file(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.bin") as file:
        file.write(b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    assert (tmp_path / "a.bin").read_bytes() == b"whole"


def test_nothing_under_the_name_before_the_end(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.bin") as file:
        file.write(b"x" * 100_000)
        assert not (tmp_path / "a.bin").exists()


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), BundleError("x")])
def test_exception_keeps_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(type(error)), atomic_write(path) as file:
        file.write(b"new")
        raise error
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    message = r"a\.bin: no space left"
    with pytest.raises(StorageError, match=message) as caught, atomic_write(tmp_path / "a.bin"):
        pass
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_really_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # /dev/full fails every write, as a full disk does, so the real error path is taken.
    real_open = os.open

    def open_full(path: str | Path, flags: int, mode: int = 0o777) -> int:
        os.close(real_open(path, flags, mode))
        return real_open("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(os, "open", open_full)
    with (
        pytest.raises(StorageError, match="no space left"),
        atomic_write(tmp_path / "a.bin") as file,
    ):
        file.write(b"x" * 1_000_000)
    assert not list(tmp_path.iterdir())


def test_folder_that_does_not_exist(tmp_path: Path) -> None:
    path = tmp_path / "none" / "a.bin"
    with pytest.raises(StorageError, match="folder does not exist"), atomic_write(path):
        pass


def test_devices_and_folders_are_not_replaced(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/null")):
        with pytest.raises(StorageError, match="not an ordinary file"), atomic_write(path):
            pass
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_symbolic_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with atomic_write(tmp_path / "link") as file:
        file.write(b"data")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"data"


def test_mode_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with atomic_write(tmp_path / "a.bin"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == 0o644
