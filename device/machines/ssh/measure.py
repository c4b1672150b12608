"""Measuring on a board: the agent goes there, and its report comes back."""

from __future__ import annotations

from headgate.device.agent.report import Report
from headgate.device.agent.settings import Settings
from headgate.device.agent_archive import agent_archive
from headgate.device.agent_call import agent_result
from headgate.device.bundle import Bundle
from headgate.device.machines.ssh.connection import Connection
from headgate.device.machines.ssh.store import Item, store
from headgate.errors import ToolMissing

# On JetPack 4, python3 is 3.6, whatever else is installed. Standard input stays open for as long
# as we are there. When that ends, so does the agent, and with it the network's process: without
# a terminal nothing else would tell them.
_WATCHED = """
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


def measure_over(connection: Connection, bundle: Bundle, settings: Settings) -> Report:
    """Measure a bundle on the board at the other end of a connection.

    Returns:
        The agent's report, whose form was checked.

    Raises:
        ToolMissing, UsageError, StorageError, DeviceError: as :meth:`SshMachine.measure`.
    """
    items = [Item(agent_archive(), executable=True), Item(bundle.to_bytes())]
    agent, there = (stored.path for stored in store(connection, items))
    answer = connection.call(
        _WATCHED, "-I", agent, "profile", there, *settings.arguments(), hold=True
    )
    if answer.status == _NO_PYTHON:
        raise ToolMissing(
            f"{connection.name} has no Python 3.8 or newer, which measuring needs: sudo apt "
            "install python3 there, python3.8 on JetPack 4; `headgate run` and `validate` need none"
        )
    return agent_result(connection.name, answer.status, answer.output, answer.stderr)
