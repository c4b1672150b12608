"""Firmware through a debug probe, which pyOCD drives."""

from __future__ import annotations

import re
import subprocess
import sys

from headgate.device.flash.firmware import Firmware
from headgate.errors import DeviceError, ToolMissing, UsageError, not_installed, why

_LIMIT_S = 300
# What begins a line of pyOCD's log, and ends it.
_LOG = re.compile(r"^\d+ [A-Z] | \[\w+\]$")


def check_probe(firmware: Firmware) -> None:
    """A UsageError for a board that no probe reaches, a ToolMissing if pyOCD is not installed."""
    board = firmware.board
    if board.pyocd is None:
        raise UsageError(
            f"{board.name} ({board.model}) is not flashed by headgate; load {firmware.path} with "
            "its own tools"
        )
    if missing := not_installed(["pyocd"], f"flash {board.name}", "pyocd"):
        raise ToolMissing(missing)


def flash_by_probe(firmware: Firmware) -> None:
    """Writes a program through the one probe that is plugged in, and resets the board.

    Raises:
        UsageError, ToolMissing: as ``check_probe``.
        DeviceError: no probe, no board behind it, or it failed; what pyOCD says.
    """
    check_probe(firmware)
    board = firmware.board
    assert board.pyocd is not None
    words = [sys.executable, "-m", "pyocd", "load", "--no-wait", "--no-config", "--color", "never"]
    words += ["--target", board.pyocd, "--format", "elf", str(firmware.path.resolve())]
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_LIMIT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"pyOCD has not finished within {_LIMIT_S} s; see the probe") from error
    except OSError as error:
        raise DeviceError(f"cannot start pyOCD: {why(error)}") from error
    if done.returncode:
        raise DeviceError(_explain(f"{done.stdout}\n{done.stderr}", board.pyocd))


def _explain(said: str, chip: str) -> str:
    if "No connected debug probes" in said or "No target device available" in said:
        return "no debug probe is plugged in; connect the board's USB port that its debugger is on"
    lines = [_LOG.sub("", _LOG.sub("", line.strip())) for line in said.splitlines()]
    if any("not recognized" in line for line in lines):
        return f"pyOCD does not know {chip} yet; run: python -m pyocd pack install {chip}"
    return f"pyOCD failed: {next((line for line in reversed(lines) if line), 'it says nothing')}"
