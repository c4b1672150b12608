"""Files on a board, kept under their SHA-256 in ``~/.cache/headgate``.

A file of the store has that name only when its contents were verified on the board. What is on
its way is in ``NAME.part``: an interrupted upload goes on where it ended. What nobody used for
:data:`KEPT_DAYS` is removed, as it is a cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from headgate.device.ssh.connection import Connection
from headgate.device.ssh.failures import command_error
from headgate.errors import DeviceError, StorageError

KEPT_DAYS = 30
_CHUNK_BYTES = 1 << 18

Progress = Callable[[int, int], None]
"""Told how many bytes of a file are on the board, and how many there are."""

# For each name: its path, whether it is whole, how much of it has arrived. Then the free space.
_SURVEY = """
set -eu
days=$1; shift
store=$HOME/.cache/headgate
mkdir -p "$store"
find "$store" -maxdepth 1 -type f -mtime "+$days" -exec rm -f {} + || true
for name; do
  whole=no arrived=0
  if [ -f "$store/$name" ]; then
    sum=$(sha256sum <"$store/$name")
    if [ "${sum%% *}" = "$name" ]; then
      whole=yes
      touch "$store/$name"
    else
      rm -f "$store/$name"
    fi
  fi
  if [ -f "$store/$name.part" ]; then
    arrived=$(wc -c <"$store/$name.part")
  fi
  printf '%s %d %s\\n' "$whole" "$arrived" "$store/$name"
done
df -Pk "$store" | tail -n 1 | awk '{ print $4 }'
"""

# Appends, so nothing that arrived is lost when the connection is. The exit status 3 means that
# less has come than was promised, 4 that it is not what was sent.
_RECEIVE = """
set -u
path=$1 sum=$2 bytes=$3 mode=$4
cat >>"$path.part" || { status=$?; rm -f "$path.part"; exit "$status"; }
arrived=$(wc -c <"$path.part")
[ "$arrived" -ge "$bytes" ] || exit 3
found=$(sha256sum <"$path.part")
if [ "${found%% *}" != "$sum" ]; then
  rm -f "$path.part"
  exit 4
fi
set -e
chmod "$mode" "$path.part"
sync "$path.part" 2>/dev/null || sync
mv -f "$path.part" "$path"
"""
_SHORT, _ALTERED = 3, 4


@dataclass(frozen=True)
class Item:
    """Something to have on the board."""

    data: bytes
    executable: bool = False

    @cached_property
    def sha256(self) -> str:
        """Its name in the store."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class Stored:
    """Where an item is on the board, and how much of it had to be copied for that."""

    path: str
    copied_bytes: int


def store(
    connection: Connection, items: Sequence[Item], progress: Progress | None = None
) -> list[Stored]:
    """Have items on the board: those that are there and whole are not copied again.

    Args:
        connection: to the board.
        items: what it must have.
        progress: told of every part that is sent.

    Raises:
        StorageError: the board's disk has no space, or is not ours to write.
        DeviceError: the board dropped off, or the data arrived altered.
    """
    names = [item.sha256 for item in items]
    answer = connection.checked("look for files", _SURVEY, str(KEPT_DAYS), *names)
    try:
        *lines, free_kib = answer.decode(errors="replace").splitlines()
        found = [line.split(" ", 2) for line in lines]
        states = [(whole == "yes", int(arrived), path) for whole, arrived, path in found]
        free_bytes = int(free_kib) * 1024
    except ValueError as error:
        raise DeviceError(
            f"{connection.name} does not say what files it has; log in and look at "
            "~/.cache/headgate"
        ) from error
    missing = sum(
        max(0, len(item.data) - arrived)
        for item, (whole, arrived, _) in zip(items, states, strict=True)
        if not whole
    )
    if missing > free_bytes:
        raise StorageError(
            f"cannot copy {missing:,} bytes to {connection.name}: {free_bytes:,} are free on its "
            "disk; free some and repeat"
        )
    result = []
    for item, (whole, arrived, path) in zip(items, states, strict=True):
        copied = 0 if whole else _send(connection, item, path, arrived, progress)
        result.append(Stored(path, copied))
    return result


def _send(
    connection: Connection, item: Item, path: str, arrived: int, progress: Progress | None
) -> int:
    """Bytes sent of what was missing."""
    total = len(item.data)
    rest = memoryview(item.data)[arrived:]
    answer = connection.call(
        _RECEIVE,
        path,
        item.sha256,
        str(total),
        "755" if item.executable else "644",
        stdin=_parts(rest, arrived, total, progress),
    )
    if answer.status == _SHORT:
        raise DeviceError(
            f"{connection.name} received less than was sent; repeat the command: what arrived "
            "is kept"
        )
    if answer.status == _ALTERED:
        raise DeviceError(
            f"what {connection.name} received is not what was sent, and was removed there; repeat "
            "the command, and if that does not help, check its disk"
        )
    if answer.status:
        raise command_error(connection.name, "copy files", answer.status, answer.stderr)
    return len(rest)


def _parts(
    rest: memoryview, arrived: int, total: int, progress: Progress | None
) -> Iterable[bytes]:
    for start in range(0, len(rest), _CHUNK_BYTES):
        part = bytes(rest[start : start + _CHUNK_BYTES])
        yield part
        if progress is not None:
            progress(arrived + start + len(part), total)
