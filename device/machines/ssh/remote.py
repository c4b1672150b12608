"""A board as a machine: the bundle's static runner there, arrays from and to here."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headgate.device.boards import Board
from headgate.device.bundle import Bundle
from headgate.device.cpu import lacking
from headgate.device.machines.base import Machine
from headgate.device.machines.ssh.connection import Connection
from headgate.device.machines.ssh.failures import command_error
from headgate.device.machines.ssh.store import Item, store
from headgate.device.program import Execution, Program, little_endian
from headgate.device.protocol import RUNNER, WEIGHTS, Request
from headgate.errors import BundleError, DeviceError, UsageError, why

_LOOK = """
uname -m
getconf _NPROCESSORS_ONLN 2>/dev/null || nproc 2>/dev/null || grep -c ^processor /proc/cpuinfo
{ tr -d '\\000' </proc/device-tree/model; } 2>/dev/null || printf 'a machine without a model name'
echo
cat /proc/cpuinfo
"""

# Standard input stays open for as long as we are there, as with measuring: when it ends, so does
# the network, which nothing else would tell. `head` takes no more than the inputs, where `tar`
# would read on. The folder goes with the script, also when nobody is there to read the results
# (what the shell says of its network then ends in a broken pipe). An empty environment, as the
# agent has it. /tmp is often memory, and inputs can be large.
_RUN = """
bytes=$1; shift
folder=$(mktemp -d "${TMPDIR:-/var/tmp}/headgate-XXXXXX") || exit 1
network= watch=
trap 'kill $network $watch 2>/dev/null || true; rm -rf "$folder"' EXIT
trap 'exit 1' HUP INT PIPE TERM
set -e
cd "$folder"
head -c "$bytes" | tar -xf -
mkdir results
exec 3<&0
env -i "$@" </dev/null >&2 3<&- &
network=$!
{ cat <&3; kill "$network"; } >/dev/null 2>&1 &
watch=$!
status=0
wait "$network" || status=$?
network=
[ "$status" -eq 0 ] || exit "$status"
tar -cf - -C results .
"""
_ILLEGAL_INSTRUCTION = 128 + 4


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
        return RemoteProgram(bundle, self, threads)


class RemoteProgram(Program):
    """A network on a board. It closes the machine's connection when it is closed.

    Raises:
        StorageError: the board's disk is full.
        DeviceError: the board cannot be reached, or dropped off.
    """

    def __init__(self, bundle: Bundle, machine: SshMachine, threads: int) -> None:
        super().__init__(bundle, machine.name, threads)
        self._connection = machine.connection()
        runner = Item(bundle.members[RUNNER], executable=True)
        weights = Item(bundle.members[WEIGHTS])
        self._runner, self._weights = store(self._connection, [runner, weights])

    def _execute(self, inputs: list[np.ndarray], request: Request) -> Execution:
        command = request.command(self._runner.path, self._weights.path, found="results/")
        data = _pack(request.given, inputs)
        answer = self._connection.call(_RUN, str(len(data)), *command, stdin=data, hold=True)
        if answer.status == _ILLEGAL_INSTRUCTION:
            raise DeviceError(
                f"{self.name!r} uses an instruction that {self.machine} lacks; recompile it for "
                "that board"
            )
        if answer.status:
            raise command_error(self.machine, f"run {self.name!r}", answer.status, answer.stderr)
        results = _unpack(self.machine, answer.output)
        return Execution.read(
            request, self.bundle.manifest, len(inputs[0]), results.__getitem__, self.machine
        )

    def _free(self) -> None:
        self._connection.close()


def _pack(names: Sequence[str], inputs: list[np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, array in zip(names, inputs, strict=True):
            data = little_endian(array).tobytes()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _unpack(machine: str, data: bytes) -> dict[str, bytes]:
    """What the runner wrote, by name."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                if (file := archive.extractfile(member)) is not None:
                    files[member.name.removeprefix("./")] = file.read()
    except (tarfile.TarError, EOFError) as error:
        raise DeviceError(f"the results of {machine} arrived damaged: {why(error)}") from error
    return files
