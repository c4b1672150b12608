"""Calling the agent on this machine, and what its exit status means."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from headgate.device.agent.report import Report
from headgate.device.agent.settings import Settings
from headgate.device.agent_archive import FILE_NAME, agent_archive
from headgate.device.agent_report import read_agent_report
from headgate.device.files import atomic_write
from headgate.errors import DeviceError, HeadgateError, UsageError

_WRONG_USAGE, _NO_SENSOR = 2, 3
_PREFIX = "headgate-agent: "


def measure_here(
    bundle: str | Path,
    settings: Settings,
    *,
    machine: str = "host",
    inputs: Sequence[Path] = (),
    emulator: Sequence[str] = (),
) -> Report:
    """Measure a bundle on this machine with the agent, as a board would.

    ``machine`` is what to call it, ``inputs`` a file of raw float32 samples for each input (the
    test vectors if none), ``emulator`` the command line in front of the runner.

    Raises:
        UsageError: the agent does not know an option, or a value of one.
        DeviceError: there is no sensor for the energy that was asked for, or the agent failed.
            A sensor that fails later leaves a report that says so and is not ``valid``.
    """
    with tempfile.TemporaryDirectory(prefix="headgate-") as folder:
        agent = Path(folder) / FILE_NAME
        with atomic_write(agent) as file:
            file.write(agent_archive())
        command = [sys.executable, "-I", str(agent), "profile", str(bundle)]
        command += [word for path in inputs for word in ("--input", str(path))]
        command += ["--emulator", shlex.join(emulator)] if emulator else []
        done = subprocess.run(
            [*command, *settings.arguments()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    return agent_result(machine, done.returncode, done.stdout, done.stderr.decode(errors="replace"))


def agent_result(name: str, status: int, output: bytes, stderr: str) -> Report:
    """The report that an agent printed, or the error, as :func:`measure_here`."""
    if status == 0 or (status == 1 and output):  # 1: the outputs are wrong, which the report says
        try:
            return dataclasses.replace(read_agent_report(output), machine=name)
        except DeviceError as error:
            raise DeviceError(f"{name}: {error}") from error
    if status == _NO_SENSOR and output:
        # The sensor failed after the latency had been measured. The report has that, and says
        # among its reasons for being invalid why there is no energy.
        with contextlib.suppress(DeviceError):
            return dataclasses.replace(read_agent_report(output), machine=name)
    raise _failure(name, status, stderr)


def _failure(name: str, status: int, stderr: str) -> HeadgateError:
    lines = stderr.strip().splitlines()
    complaints = [line.removeprefix(_PREFIX) for line in lines if line.startswith(_PREFIX)]
    # argparse has its own way of complaining.
    last = complaints[-1] if complaints else lines[-1] if lines else f"exit status {status}"
    if status == _WRONG_USAGE:
        return UsageError(f"{name}: {last}")
    if status == _NO_SENSOR:
        return DeviceError(f"energy cannot be measured on {name}: {last}")
    return DeviceError(f"cannot measure on {name}: {last}")
