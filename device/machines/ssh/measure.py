"""Measuring on a board: the agent goes there, and its report comes back."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from headgate.device.agent.report import Report
from headgate.device.agent_archive import agent_archive
from headgate.device.agent_call import Settings, agent_result
from headgate.device.bundle import Bundle
from headgate.device.machines.ssh.remote import SshMachine
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


def measure(
    bundle: Bundle | str | Path, machine: SshMachine, settings: Settings | None = None
) -> Report:
    """Measure a bundle on a board: latency, layers, active channels, and energy if wanted.

    Sensor, shunt and column are those of the inventory unless the settings name others.

    Returns:
        The agent's report (``device/agent/README.md``), whose form was checked. Whether it
        counts is in its ``valid``: wrong outputs, throttling, and a sensor that failed during
        the measurement do not raise.

    Raises:
        MissingFile, BundleError: there is no such bundle, it is damaged or for another CPU.
        ToolMissing: the board has no Python that is new enough.
        UsageError: the agent does not know an option, or a value of one.
        StorageError: the board's disk has no space.
        DeviceError: energy was asked for and there is no sensor, the agent failed, or the
            board cannot be reached or dropped off.
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    settings = settings or Settings()
    board = machine.board
    settings = dataclasses.replace(
        settings,
        sensor=settings.sensor or board.sensor,
        shunt_uohm=settings.shunt_uohm or board.shunt_uohm,
        column=settings.column or board.column,
    )
    machine.check(opened)
    connection = machine.connection()
    items = [Item(agent_archive(), executable=True), Item(opened.to_bytes())]
    agent, there = (stored.path for stored in store(connection, items))
    answer = connection.call(
        _WATCHED, "-I", agent, "profile", there, *settings.arguments(), hold=True
    )
    if answer.status == _NO_PYTHON:
        raise ToolMissing(
            f"{machine.name} has no Python 3.8 or newer, which measuring needs: sudo apt install "
            "python3 there, python3.8 on JetPack 4; `headgate run` and `validate` need none"
        )
    return agent_result(machine.name, answer.status, answer.output, answer.stderr)
