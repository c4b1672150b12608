"""Boards by name: kinds that headgate ships, and the user's own in a ``boards.toml``.

The inventory is ``boards.toml`` in the working folder, or ``headgate/boards.toml`` in the user's
configuration folder; a name in both is the working folder's. machines/ssh/README.md has its keys.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from headgate.device.agent.errors import AgentError
from headgate.device.agent.sensors import KINDS, kind_of
from headgate.device.files import storage_error
from headgate.device.machines.ssh.address import Address
from headgate.device.schema import Choice, Mismatch, at_least, decode
from headgate.device.targets import TABLE
from headgate.errors import UsageError, suggest, why

INVENTORY = "boards.toml"
ALL = "all"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TAKEN = (ALL, "host")


@dataclass(frozen=True)
class Kind:
    """A kind of board that headgate ships: what is the same for all of them."""

    name: str
    model: str
    """How the device tree's model begins."""
    target: str
    cores: int
    sensors: list[str]
    """Kinds of power sensors that it has or can be given."""
    device_trees: list[str] = field(default_factory=list)
    """How the names of its device trees begin; none where images are not ours to make."""


@dataclass(frozen=True)
class Board:
    """A board that can be reached; ``kind`` is None where only the address is known."""

    name: str
    address: Address
    kind: Kind | None = None
    sensor: str | None = None
    shunt_uohm: int | None = None
    column: str | None = None

    def target_of(self, model: str) -> str | None:
        """The target to compile for, by the inventory or by the model that the board names."""
        if self.kind is not None:
            return self.kind.target
        known = (kind.target for kind in kinds().values() if model.startswith(kind.model))
        return next(known, None)


def kinds() -> dict[str, Kind]:
    return {name: Kind(name, **table) for name, table in TABLE["board"].items()}


def inventory() -> dict[str, Board]:
    """The user's boards by name; none where there is no inventory.

    A file that is none is a UsageError, one that cannot be read a StorageError.
    """
    boards: dict[str, Board] = {}
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    # The last one counts most.
    for path in (Path(home) / "headgate" / INVENTORY, Path(INVENTORY)):
        try:
            text = path.read_text(encoding="utf-8-sig")  # Windows' editors begin with a mark
        except FileNotFoundError:
            continue
        except OSError as error:
            raise storage_error("read", path, error) from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{path} is not text: {why(error)}") from error
        boards |= read_inventory(text, str(path))
    return boards


def read_inventory(text: str, source: str) -> dict[str, Board]:
    """Boards of an inventory; a UsageError if it is none."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source} is not TOML: {why(error)}") from error
    shipped = kinds()
    return {
        name: _board(name, table, shipped, f"{source}: [{name}]") for name, table in tables.items()
    }


def find_board(name: str) -> Board:
    """A board of the inventory, or the one at ``USER@HOST``; a UsageError if it is neither."""
    if "@" in name:
        return Board(name, Address.parse(name))
    boards = inventory()
    if name not in boards:
        known = suggest(name, boards) if boards else f" There is no {INVENTORY} here."
        raise UsageError(f"no board {name!r}.{known} Or write USER@HOST")
    return boards[name]


_Target = Annotated[str, Choice(lambda: {kind.target for kind in kinds().values()})]
_SensorKind = Annotated[str, Choice(lambda: KINDS)]


@dataclass(frozen=True)
class _Entry:
    """A table of an inventory, as it is written."""

    board: Annotated[str, Choice(kinds)]
    host: str
    port: Annotated[int, at_least(1)] | None = None
    target: _Target | None = None
    cores: Annotated[int, at_least(1)] | None = None
    sensors: list[_SensorKind] | None = None
    sensor: str | None = None
    shunt_uohm: Annotated[int, at_least(1)] | None = None
    column: str | None = None


def _board(name: str, table: Any, shipped: Mapping[str, Kind], place: str) -> Board:
    if not _NAME.fullmatch(name) or name in _TAKEN:
        raise UsageError(f"{place}: a board cannot be called {name!r}; choose another name")
    try:
        entry = decode(_Entry, table, strict=True)
        if entry.sensor is not None:
            kind_of(entry.sensor)
        address = Address.parse(entry.host)
        if entry.port is not None:
            if address.port not in (None, entry.port):
                raise UsageError(f"host names port {address.port}, port {entry.port}; give one")
            address = replace(address, port=entry.port)
    except (UsageError, AgentError, Mismatch) as error:
        raise UsageError(f"{place}: {error}") from error
    own = {"target": entry.target, "cores": entry.cores, "sensors": entry.sensors}
    changes: dict[str, Any] = {key: value for key, value in own.items() if value is not None}
    kind = replace(shipped[entry.board], **changes)
    return Board(name, address, kind, entry.sensor, entry.shunt_uohm, entry.column)
