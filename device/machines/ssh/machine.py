"""A board that ssh reaches, as a machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from headgate.device.agent.report import Report
from headgate.device.agent.settings import Settings
from headgate.device.agent_archive import agent_archive
from headgate.device.agent_call import agent_result
from headgate.device.boards import Board, find_board, inventory
from headgate.device.bundle import Bundle
from headgate.device.machines.base import Machine
from headgate.device.machines.ssh.connection import Connection
from headgate.device.machines.ssh.remote import RemoteProgram
from headgate.device.machines.ssh.store import Item, store
from headgate.device.program import Program
from headgate.device.protocol import RUNNER
from headgate.device.targets import missing_features
from headgate.errors import BundleError, DeviceError, ToolMissing, UsageError

_LOOK = """
uname -m
getconf _NPROCESSORS_ONLN 2>/dev/null || nproc 2>/dev/null || grep -c ^processor /proc/cpuinfo
{ tr -d '\\000' </proc/device-tree/model; } 2>/dev/null || printf 'a machine without a model name'
echo
cat /proc/cpuinfo
"""

# On JetPack 4, python3 is 3.6, whatever else is installed. Standard input stays open for as long
# as we are there. When that ends, so does the agent, and with it the network's process: without
# a terminal nothing else would tell them.
_MEASURE = """
for python in python3 python3.8 python3.9 python3.10 python3.11 python3.12 python3.13 ''; do
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null && break
done
[ -n "$python" ] || exit 127
exec 3<&0
"$python" "$@" </dev/null &
agent=$!
{ cat <&3; kill "$agent"; } >/dev/null 2>&1 &
watch=$!
wait "$agent"
status=$?
kill "$watch" 2>/dev/null
exit "$status"
"""
_NO_PYTHON = 127


@dataclass(frozen=True)
class Facts:
    arch: str
    cores: int
    model: str
    cpuinfo: str


class SshMachine(Machine):
    """A board that ssh reaches. It is connected to when it is first needed."""

    is_board = True

    @classmethod
    def names(cls) -> list[str]:
        return list(inventory())

    @classmethod
    def named(cls, name: str) -> SshMachine | None:
        return cls(find_board(name)) if "@" in name or name in inventory() else None

    def __init__(self, board: Board) -> None:
        self.name = board.name
        self.board = board
        self._connection: Connection | None = None
        self._facts: Facts | None = None

    def connection(self) -> Connection:
        """One connection for all that is done with this machine, made when needed."""
        if self._connection is None or not self._connection.alive:
            self._connection = Connection(self.name, self.board.address)
        return self._connection

    def facts(self) -> Facts:
        """What the board says of itself, asked once."""
        if self._facts is None:
            answer = self.connection().checked("look at the CPU", _LOOK).decode(errors="replace")
            try:
                arch, cores, model, cpuinfo = answer.split("\n", 3)
                self._facts = Facts(arch, int(cores), model, cpuinfo)
            except ValueError as error:
                raise DeviceError(f"{self.name} does not look like a Linux board") from error
        return self._facts

    def check(self, bundle: Bundle) -> None:
        facts, target = self.facts(), bundle.target
        wanted = self.board.target_of(facts.model)
        remedy = f"recompile it with --target {wanted or 'one of `headgate targets`'}"
        compiled = f"{bundle.name!r} is compiled for target {target['name']}"
        if target["arch"] != facts.arch:
            raise BundleError(
                f"{compiled} ({target['arch']}), {self.name} is {facts.model} ({facts.arch}); "
                f"{remedy}"
            )
        missing = missing_features(target, facts.cpuinfo)
        if missing:
            raise BundleError(
                f"{compiled} ({target['cpu']}), {self.name} is {facts.model}, whose CPU lacks "
                f"{', '.join(missing)}; {remedy}"
            )
        if RUNNER not in bundle.members:
            raise BundleError(f"{bundle.name!r} has no {RUNNER}; recompile it")

    def load(self, bundle: Bundle, threads: int) -> Program:
        cores = self.facts().cores
        if threads > cores:
            raise UsageError(f"{threads} threads, but {self.name} has {cores} cores; take fewer")
        return RemoteProgram(bundle, self.name, self.connection(), threads)

    def measure(
        self, bundle: Bundle | str | Path, settings: Settings, inputs: Sequence[Path] = ()
    ) -> Report:
        """Sensor, shunt and column are those of the inventory unless the settings name others."""
        if inputs:
            raise UsageError(
                f"{self.name} measures on the bundle's own test vectors; give no inputs"
            )
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        board = self.board
        settings = replace(
            settings,
            sensor=settings.sensor or board.sensor,
            shunt_uohm=settings.shunt_uohm or board.shunt_uohm,
            column=settings.column or board.column,
        )
        self.check(opened)
        connection = self.connection()
        items = [Item(agent_archive(), executable=True), Item(opened.to_bytes())]
        agent, there = (stored.path for stored in store(connection, items))
        words = ("-I", agent, "profile", there, *settings.arguments())
        answer = connection.call(_MEASURE, *words, hold=True)
        if answer.status == _NO_PYTHON:
            raise ToolMissing(
                f"{self.name} has no Python 3.8 or newer, which measuring needs: sudo apt install "
                "python3 there, python3.8 on JetPack 4; `headgate run` and `validate` need none"
            )
        return agent_result(self.name, answer.status, answer.output, answer.stderr)

    def check_threads(self, threads: int) -> None:
        kind = self.board.kind
        if kind is not None and threads > kind.cores:
            raise UsageError(
                f"--threads {threads}: {self.name} is a board {kind.name!r} of {kind.cores} cores; "
                f"give {kind.cores} at most, or its real `cores` in boards.toml"
            )
