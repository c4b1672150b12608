"""A board that ssh reaches, as a machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from headgate.device.agent.report import Report
from headgate.device.agent.settings import Settings
from headgate.device.boards import Board, find_board, inventory
from headgate.device.bundle import Bundle
from headgate.device.cpu import lacking
from headgate.device.machines.base import Machine
from headgate.device.machines.ssh.connection import Connection
from headgate.device.machines.ssh.measure import measure_over
from headgate.device.machines.ssh.remote import RemoteProgram
from headgate.device.program import Program
from headgate.device.protocol import RUNNER
from headgate.errors import BundleError, DeviceError, UsageError

_LOOK = """
uname -m
getconf _NPROCESSORS_ONLN 2>/dev/null || nproc 2>/dev/null || grep -c ^processor /proc/cpuinfo
{ tr -d '\\000' </proc/device-tree/model; } 2>/dev/null || printf 'a machine without a model name'
echo
cat /proc/cpuinfo
"""


@dataclass(frozen=True)
class Facts:
    """What a board says about itself."""

    arch: str
    cores: int
    model: str
    cpuinfo: str


class SshMachine(Machine):
    """A board that ssh reaches. It is connected to when it is first needed.

    Args:
        board: where it is, and what is known about it.
    """

    is_board = True

    @classmethod
    def names(cls) -> list[str]:
        """The boards of the user's inventory."""
        return list(inventory())

    @classmethod
    def named(cls, name: str) -> SshMachine | None:
        """A board of the user's inventory, or ``USER@HOST``."""
        return cls(find_board(name)) if "@" in name or name in inventory() else None

    def __init__(self, board: Board) -> None:
        self.name = board.name
        self.board = board
        self._connection: Connection | None = None
        self._facts: Facts | None = None

    def connection(self) -> Connection:
        """The connection: one for all that is done with this machine, made when needed.

        Raises:
            ToolMissing: OpenSSH is not installed.
            DeviceError: the board cannot be reached.
        """
        if self._connection is None or not self._connection.alive:
            self._connection = Connection(self.name, self.board.address)
        return self._connection

    def close(self) -> None:
        """End the connection; what needs it makes a new one."""
        if self._connection is not None:
            self._connection.close()

    def facts(self) -> Facts:
        """Architecture, cores, model and CPU, asked once.

        Raises:
            DeviceError: the board cannot be reached, or is no Linux.
        """
        if self._facts is None:
            answer = self.connection().checked("look at the CPU", _LOOK).decode(errors="replace")
            try:
                arch, cores, model, cpuinfo = answer.split("\n", 3)
                self._facts = Facts(arch, int(cores), model, cpuinfo)
            except ValueError as error:
                raise DeviceError(f"{self.name} does not look like a Linux board") from error
        return self._facts

    def check(self, bundle: Bundle) -> None:
        """Compare architecture and CPU features with what the board says it has.

        Raises:
            BundleError: its CPU cannot run the bundle's instructions, or there is no runner.
            DeviceError: the board cannot be reached.
        """
        facts, target = self.facts(), bundle.target
        wanted = self.board.target_of(facts.model)
        remedy = f"recompile it with --target {wanted or 'one of `headgate targets`'}"
        compiled = f"{bundle.name!r} is compiled for target {target['name']}"
        if target["arch"] != facts.arch:
            raise BundleError(
                f"{compiled} ({target['arch']}), {self.name} is {facts.model} ({facts.arch}); "
                f"{remedy}"
            )
        missing = lacking(target["cpu"], target["features"], facts.arch, facts.cpuinfo)
        if missing:
            raise BundleError(
                f"{compiled} ({target['cpu']}), {self.name} is {facts.model}, whose CPU lacks "
                f"{', '.join(missing)}; {remedy}"
            )
        if RUNNER not in bundle.members:
            raise BundleError(f"{bundle.name!r} has no {RUNNER}; recompile it")

    def load(self, bundle: Bundle, threads: int) -> Program:
        """Copy runner and weights to the board, unless they are there.

        Raises:
            UsageError: more threads than the board has cores.
            StorageError: the board's disk is full.
            DeviceError: the board cannot be reached, or dropped off.
        """
        cores = self.facts().cores
        if threads > cores:
            raise UsageError(f"{threads} threads, but {self.name} has {cores} cores; take fewer")
        return RemoteProgram(bundle, self.name, self.connection(), threads)

    def measure(
        self,
        bundle: Bundle | str | Path,
        settings: Settings | None = None,
        inputs: Sequence[Path] = (),
    ) -> Report:
        """Measure a bundle there: latency, layers, active channels, and energy if wanted.

        Sensor, shunt and column are those of the inventory unless the settings name others.

        Raises:
            MissingFile, BundleError: there is no such bundle, it is damaged or for another CPU.
            ToolMissing: the board has no Python that is new enough.
            UsageError: inputs are given, or the agent does not know an option or a value of one.
            StorageError: the board's disk has no space.
            DeviceError: energy was asked for and there is no sensor, the agent failed, or the
                board cannot be reached or dropped off.
        """
        if inputs:
            raise UsageError(
                f"{self.name} measures on the bundle's own test vectors; give no inputs"
            )
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        settings, board = settings or Settings(), self.board
        settings = replace(
            settings,
            sensor=settings.sensor or board.sensor,
            shunt_uohm=settings.shunt_uohm or board.shunt_uohm,
            column=settings.column or board.column,
        )
        self.check(opened)
        return measure_over(self.connection(), opened, settings)

    def check_threads(self, threads: int) -> None:
        """Compare with the cores of the board's kind; one whose kind is not known is asked later.

        Raises:
            UsageError: there are too many.
        """
        kind = self.board.kind
        if kind is not None and threads > kind.cores:
            raise UsageError(
                f"--threads {threads}: {self.name} is a board {kind.name!r} of {kind.cores} cores; "
                f"give {kind.cores} at most, or its real `cores` in boards.toml"
            )
