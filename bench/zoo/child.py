"""One network in a process of its own, with a limit on time and on memory."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from bench.zoo.record import Record, fault

GIBIBYTE = 1 << 30
STDOUT, STDERR = 1, 2  # of the process: libraries write there, past Python's objects


def examine_in_child(
    examine: Callable[[Record], None], folder: Path, limit_s: float, memory_gib: int
) -> dict[str, Any]:
    """What ``examine`` noted before it returned, failed, or was stopped at a limit.

    Adds ``end``, None if it came to its end, ``seconds``, and as ``log`` the last that the child
    printed if it did not. ``folder`` is empty before. Address space is limited, so a network that
    wants more memory gets an exception there, and the machine stays usable.
    """
    path, log = folder / "record.json", folder / "child.log"
    begin = monotonic()
    pid = os.fork()
    if pid == 0:
        os._exit(_child(examine, path, log, memory_gib))
    status = _wait(pid, begin + limit_s)
    record = json.loads(path.read_text()) if path.is_file() else {}
    end = record.pop("failed", None)
    if status is None:
        end = f"stopped after {limit_s:.0f} s"
    elif os.WIFSIGNALED(status):
        end = f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    if end is not None and log.is_file():
        record["log"] = log.read_text(errors="replace")[-2000:]
    return {**record, "end": end, "seconds": round(monotonic() - begin, 1)}


def _child(examine: Callable[[Record], None], path: Path, log: Path, memory_gib: int) -> int:
    """Runs in the child, never returns to the sweep; the exit code."""
    record = Record(path)
    try:
        os.setsid()  # so that its own children end with it
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_AS, (memory_gib * GIBIBYTE,) * 2)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, STDOUT)
        os.dup2(output, STDERR)
        examine(record)
    except BaseException as error:
        record.note(failed=f"{type(error).__name__}: {error}"[:1000], fault=fault(error))
        return 1
    return 0


def _wait(pid: int, deadline: float) -> int | None:
    """The child's status; None if its time was up.

    It ends then, and when the sweep is interrupted, with all that it started.
    """
    status = None
    try:
        while status is None and monotonic() < deadline:
            done, waited = os.waitpid(pid, os.WNOHANG)
            status = waited if done else None
            sleep(0 if done else 0.1)
    finally:
        if status is None:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return status
