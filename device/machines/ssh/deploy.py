"""Putting a bundle on a board, ready to be used there."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from headgate.device.agent_archive import FILE_NAME, agent_archive
from headgate.device.bundle import Bundle
from headgate.device.machines.ssh.machine import SshMachine
from headgate.device.machines.ssh.store import Item, Progress, store
from headgate.errors import DeviceError, UsageError

FOLDER = "headgate"
"""In the home of the user on the board."""

# A hard link where the file system has them, so nothing is there twice. The name changes hands in
# one step, and only if its contents do: whatever ran before can be run until then.
_PLACE = """
set -eu
folder=$HOME/$1; shift
mkdir -p "$folder"
while [ $# -gt 0 ]; do
  kept=$1 path=$folder/$2; shift 2
  if [ -d "$path" ]; then
    echo "$path is a folder" >&2
    exit 1
  fi
  if [ ! -f "$path" ] || ! cmp -s "$kept" "$path"; then
    new=$folder/.new.$$
    trap 'rm -f "$new"' EXIT
    ln -f "$kept" "$new" 2>/dev/null || cp "$kept" "$new"
    sync "$new" 2>/dev/null || sync
    mv -f "$new" "$path"
  fi
  printf '%s\\n' "$path"
done
"""


@dataclass(frozen=True)
class Deployment:
    """A bundle (``path``, ``bytes``) on a board, and the agent that measures it there."""

    board: str
    path: str
    agent: str
    bytes: int
    copied_bytes: int
    """Of bundle and agent: none if both were there."""
    seconds: float


def deploy(bundle: str | Path, machine: SshMachine, progress: Progress | None = None) -> Deployment:
    """Copy a bundle to ``~/headgate`` of a board, the agent beside it; what is there stays.

    An interrupted copy goes on where it ended. The name is taken only when the whole bundle has
    arrived and was verified on the board.

    Raises:
        MissingFile, BundleError: there is no such bundle, it is damaged or for another CPU.
        StorageError: the board's disk has no space, or is not ours to write.
        DeviceError: the board cannot be reached, or dropped off.
    """
    path = Path(bundle)
    opened = Bundle.open(path)
    if path.name == FILE_NAME or not path.name.isprintable():
        raise UsageError(f"{path.name!r} cannot be a bundle's name on a board; rename it")
    started = time.monotonic()
    machine.check(opened)
    connection, data = machine.connection(), path.read_bytes()
    stored = store(connection, [Item(data), Item(agent_archive(), executable=True)], progress)
    pairs = zip(stored, (path.name, FILE_NAME), strict=True)
    words = [word for item, name in pairs for word in (item.path, name)]
    answer = connection.checked(f"place {path.name}", _PLACE, FOLDER, *words)
    try:
        placed, agent = answer.decode().splitlines()
    except ValueError as error:
        raise DeviceError(f"{machine.name} does not say where the bundle is; log in") from error
    return Deployment(
        board=machine.name,
        path=placed,
        agent=agent,
        bytes=len(data),
        copied_bytes=sum(item.copied_bytes for item in stored),
        seconds=time.monotonic() - started,
    )
