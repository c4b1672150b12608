"""Files on a board, kept under their SHA-256 in ``~/.cache/headgate``.

A file has that name only when it was verified on the board. What is on its way is in ``NAME.part``;
``NAME.lock`` is a link to the number of the one process that appends to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from headgate.device.machines.ssh.connection import Connection
from headgate.device.machines.ssh.failures import command_error
from headgate.errors import DeviceError, StorageError, ToolMissing

KEPT_DAYS = 30
STALLED_S = 30
"""After which a copy that does not move is another's to continue: its sender has given up."""
_CHUNK_BYTES = 1 << 18

Progress = Callable[[int, int], None]
"""Told how many bytes of a file are on the board, and how many there are."""

# Of standard input, the first word of a line.
_DIGEST = """
digest() {
  if command -v sha256sum >/dev/null; then sha256sum
  elif command -v shasum >/dev/null; then shasum -a 256
  elif command -v openssl >/dev/null; then openssl dgst -sha256 -r
  else busybox sha256sum
  fi
}
"""

# For each name: its path, whether it is whole, how much of it has arrived. Then the free space.
# The exit status 6 means that nothing on the board computes SHA-256.
_SURVEY = f"""{_DIGEST}
set -eu
digest </dev/null >/dev/null 2>&1 || exit 6
days=$1; shift
store=$HOME/.cache/headgate
mkdir -p "$store"
find "$store" -maxdepth 1 ! -type d -mtime "+$days" -exec rm -f {{}} + || true
for name; do
  whole=no arrived=0
  if [ -f "$store/$name" ]; then
    sum=$(digest <"$store/$name")
    if [ "${{sum%% *}}" = "$name" ]; then
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
df -Pk "$store" | tail -n 1 | awk '{{ print $4 }}'
"""

# Appends, so nothing that arrived is lost when the connection is. Exit status 3: less has come than
# was promised; 4: it is not what was sent; 5: someone else copies the same; 7: someone did since we
# looked, or what was on its way has come.
#
# A holder of the lock counts if it still is such a script, which its command line tells: numbers
# of processes come again. One that is alive and gets nothing has a connection whose loss the board
# has not noticed, and may never: it goes, and the file is continued as a copy, as what may still
# arrive there must not come between.
_RECEIVE = f"""{_DIGEST}
set -u
path=$1 sum=$2 bytes=$3 mode=$4 known=$5 patience=$6
part=$path.part lock=$path.lock
size() {{
  if [ -f "$1" ]; then wc -c <"$1"; else echo 0; fi
}}
trap '[ "$(readlink "$lock")" != $$ ] || rm -f "$lock"' EXIT
trap 'exit 1' HUP INT PIPE TERM
waited=0 last=
until ln -s $$ "$lock" 2>/dev/null; do
  holder=$(readlink "$lock")
  if [ -z "$holder" ]; then
    # Given back just now, or a link is not to be had here: then this says why.
    ln -s $$ "$lock" && break
    [ -L "$lock" ] || exit 1
  elif [ "$holder" = $$ ] || ! grep -q "$sum" "/proc/$holder/cmdline" 2>/dev/null; then
    rm -f "$lock" || exit 1
  elif [ "$waited" -ge "$patience" ]; then
    kill "$holder"
    if [ -f "$part" ]; then
      cp "$part" "$part.$$" && mv -f "$part.$$" "$part" || {{ rm -f "$part.$$"; exit 1; }}
    fi
    rm -f "$lock" || exit 1
  else
    now=$(size "$part")
    [ "$now" -eq "${{last:-$now}}" ] || exit 5
    last=$now
    sleep 1
  fi
  waited=$((waited + 1))
  [ "$waited" -le $((patience + 9)) ] || exit 5
done
[ ! -f "$path" ] && [ "$(size "$part")" -eq "$known" ] || exit 7
cat >>"$part" || {{ status=$?; rm -f "$part"; exit "$status"; }}
[ "$(readlink "$lock")" = $$ ] || exit 5
[ "$(size "$part")" -ge "$bytes" ] || exit 3
found=$(digest <"$part")
if [ "${{found%% *}}" != "$sum" ]; then
  rm -f "$part"
  exit 4
fi
set -e
chmod "$mode" "$part"
sync "$part" 2>/dev/null || sync
mv -f "$part" "$path"
"""
_BUSY, _NO_DIGEST, _MOVED = 5, 6, 7
_FAILURES = {
    3: "{0} received less than was sent; repeat the command: what arrived is kept",
    4: "what {0} received is not what was sent, and was removed there; repeat the command, and if "
    "that does not help, check its disk",
    _BUSY: "someone else is copying the same file to {0}; try again when that is done",
}
_LOOKS = 3


@dataclass(frozen=True)
class Item:
    """Something to have on the board; its SHA-256 is its name there."""

    data: bytes
    executable: bool = False

    @cached_property
    def sha256(self) -> str:
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

    Raises:
        ToolMissing: nothing on the board computes SHA-256.
        StorageError: the board's disk has no space, or is not ours to write.
        DeviceError: the board dropped off, the data arrived altered, or someone else copies the
            same there.
    """
    for _ in range(_LOOKS):
        stored = _store(connection, items, progress)
        if stored is not None:
            return stored
    raise DeviceError(_FAILURES[_BUSY].format(connection.name))


def _store(
    connection: Connection, items: Sequence[Item], progress: Progress | None
) -> list[Stored] | None:
    """None where what is there changed since it was looked at."""
    names = [item.sha256 for item in items]
    answer = connection.call(_SURVEY, str(KEPT_DAYS), *names)
    if answer.status == _NO_DIGEST:
        raise ToolMissing(
            f"{connection.name} has no sha256sum, which copying needs, and no shasum, openssl or "
            "busybox in its place: sudo apt install coreutils there"
        )
    if answer.status:
        raise command_error(connection.name, "look for files", answer.status, answer.stderr)
    try:
        *lines, free_kib = answer.output.decode(errors="replace").splitlines()
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
        if copied is None:
            return None
        result.append(Stored(path, copied))
    return result


def _send(
    connection: Connection, item: Item, path: str, arrived: int, progress: Progress | None
) -> int | None:
    """Bytes sent of what was missing; None where that is not missing any more."""
    total = len(item.data)
    rest = memoryview(item.data)[arrived:]
    answer = connection.call(
        _RECEIVE,
        path,
        item.sha256,
        str(total),
        "755" if item.executable else "644",
        str(arrived),
        str(STALLED_S),
        stdin=_parts(rest, arrived, total, progress),
    )
    if answer.status == _MOVED:
        return None
    if answer.status in _FAILURES:
        raise DeviceError(_FAILURES[answer.status].format(connection.name))
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
