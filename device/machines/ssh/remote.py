"""A network on a board: the bundle's static runner there, arrays from and to here."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence

import numpy as np

from headgate.device.bundle import Bundle
from headgate.device.machines.ssh.connection import Connection
from headgate.device.machines.ssh.failures import command_error
from headgate.device.machines.ssh.store import Item, store
from headgate.device.program import Execution, Program, little_endian
from headgate.device.protocol import RUNNER, WEIGHTS, Request
from headgate.errors import DeviceError, why

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


class RemoteProgram(Program):
    """A network on a board. It closes the connection when it is closed."""

    def __init__(self, bundle: Bundle, machine: str, connection: Connection, threads: int) -> None:
        super().__init__(bundle, machine, threads)
        self._connection = connection
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
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                if (file := archive.extractfile(member)) is not None:
                    files[member.name.removeprefix("./")] = file.read()
    except (tarfile.TarError, EOFError) as error:
        raise DeviceError(f"the results of {machine} arrived damaged: {why(error)}") from error
    return files
