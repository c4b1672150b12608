"""Boards by name: kinds that headgate ships, and the user's own in a ``boards.toml``.

The inventory is ``boards.toml`` in the working folder, or ``headgate/boards.toml`` in the user's
configuration folder; a name in both is the working folder's::

    [kitchen]
    board = "rpi4"                  # one of `kinds()`
    host = "pi@kitchen.local"       # what ssh takes, an alias of its configuration too
    port = 2222                     # if it is not ssh's
    sensor = "hwmon:ina219@1-0040"  # for --energy, if `auto` would not do
    shunt_uohm = 100000             # the resistor that is really on the INA module
    column = "board_mw"             # of a meter's CSV, where several have power
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from headgate.device.agent.errors import AgentError
from headgate.device.agent.sensors import KINDS, kind_of
from headgate.device.files import storage_error
from headgate.device.machines.ssh.address import Address
from headgate.device.targets import TABLE
from headgate.errors import UsageError, suggest, why

INVENTORY = "boards.toml"
ALL = "all"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TAKEN = (ALL, "host")


@dataclass(frozen=True)
class Kind:
    """A kind of board: what is the same for all of them."""

    name: str
    model: str
    """How the device tree's model begins."""
    target: str
    """What to compile for."""
    cores: int
    sensors: list[str]
    """Kinds of power sensors that it has or can be given."""
    device_trees: list[str] = field(default_factory=list)
    """How the names of its device trees begin; none where images are not ours to make."""


@dataclass(frozen=True)
class Board:
    """A board that can be reached."""

    name: str
    address: Address
    kind: Kind | None = None
    """None where only the address is known."""
    sensor: str | None = None
    """For ``--sensor``."""
    shunt_uohm: int | None = None
    column: str | None = None
    """For ``--column``."""

    def target_of(self, model: str) -> str | None:
        """What to compile for: as the inventory says, or as the board's model tells."""
        if self.kind is not None:
            return self.kind.target
        known = (kind.target for kind in kinds().values() if model.startswith(kind.model))
        return next(known, None)


def kinds() -> dict[str, Kind]:
    """The kinds of boards that headgate ships."""
    return {name: Kind(name, **table) for name, table in TABLE["board"].items()}


def inventory() -> dict[str, Board]:
    """The user's boards by name; none where there is no inventory.

    Raises:
        UsageError: a file is no inventory; the message names the place.
        StorageError: it cannot be read.
    """
    boards: dict[str, Board] = {}
    for path in reversed(_places()):
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
    """Boards of an inventory.

    Args:
        text: TOML, one table for each board.
        source: where it comes from, for messages.

    Raises:
        UsageError: it is not TOML, or a table is wrong.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source} is not TOML: {why(error)}") from error
    shipped = kinds()
    return {
        name: _board(name, table, shipped, f"{source}: [{name}]") for name, table in tables.items()
    }


def find_board(name: str) -> Board:
    """A board of the inventory, or the one at ``USER@HOST``.

    Raises:
        UsageError: it is neither.
    """
    if "@" in name:
        return Board(name, Address.parse(name))
    boards = inventory()
    if name not in boards:
        known = suggest(name, boards) if boards else f" There is no {INVENTORY} here."
        raise UsageError(f"no board {name!r}.{known} Or write USER@HOST")
    return boards[name]


def _places() -> list[Path]:
    """Where inventories may be, the one that counts most first."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return [Path(INVENTORY), Path(home) / "headgate" / INVENTORY]


_KEYS: dict[str, type] = {
    "board": str,
    "host": str,
    "port": int,
    "target": str,
    "cores": int,
    "sensors": list,
    "sensor": str,
    "shunt_uohm": int,
    "column": str,
}
_OF_KIND = ("target", "cores", "sensors")


def _board(name: str, table: Any, shipped: Mapping[str, Kind], place: str) -> Board:
    if not _NAME.fullmatch(name) or name in _TAKEN:
        raise UsageError(f"{place}: a board cannot be called {name!r}; choose another name")
    if not isinstance(table, dict):
        raise UsageError(f"{place}: a table is expected, not {table!r}")
    for key, value in table.items():
        if key not in _KEYS:
            raise UsageError(f"{place}: unknown key {key!r}.{suggest(key, _KEYS)}")
        # True is an int in Python, and none here.
        if type(value) is not _KEYS[key]:
            raise UsageError(f"{place}: {key} = {value!r} is no {_KEYS[key].__name__}")
        if type(value) is int and value < 1:
            raise UsageError(f"{place}: {key} = {value}: at least 1 is needed")
    for key in ("board", "host"):
        if key not in table:
            known = f"; kinds of boards: {', '.join(shipped)}" if key == "board" else ""
            raise UsageError(f"{place}: {key!r} is missing{known}")
    if table["board"] not in shipped:
        raise UsageError(
            f"{place}: no kind of board {table['board']!r}.{suggest(table['board'], shipped)}"
        )
    targets = {kind.target for kind in shipped.values()}
    if "target" in table and table["target"] not in targets:
        raise UsageError(
            f"{place}: no target {table['target']!r}.{suggest(table['target'], targets)}"
        )
    changes = {key: table[key] for key in _OF_KIND if key in table}
    try:
        _check_sensors(table)
        address = Address.parse(table["host"])
        if "port" in table:
            if address.port not in (None, table["port"]):
                raise UsageError(f"host names port {address.port}, port {table['port']}; give one")
            address = replace(address, port=table["port"])
    except (UsageError, AgentError) as error:
        raise UsageError(f"{place}: {error}") from error
    return Board(
        name,
        address,
        replace(shipped[table["board"]], **changes),
        table.get("sensor"),
        table.get("shunt_uohm"),
        table.get("column"),
    )


def _check_sensors(table: Mapping[str, Any]) -> None:
    """Refuse kinds of sensors that the agent does not know.

    Raises:
        UsageError: one of ``sensors`` is none.
        AgentError: ``sensor`` is none.
    """
    for kind in table.get("sensors", ()):
        if kind not in KINDS:
            raise UsageError(f"no kind of sensor {kind!r}.{suggest(str(kind), KINDS)}")
    if "sensor" in table:
        kind_of(table["sensor"])
