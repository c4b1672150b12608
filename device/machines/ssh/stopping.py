"""Ending what several threads do over ssh: an interrupt reaches the main thread only."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from headgate.errors import DeviceError


class Stopper:
    """What ends the ssh processes of all threads that work under it, and keeps new ones away."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        # The process, and whether it leads a group of its own.
        self._processes: weakref.WeakKeyDictionary[subprocess.Popen[bytes], bool] = (
            weakref.WeakKeyDictionary()
        )

    def check(self, name: str) -> None:
        if self._stopped:
            raise DeviceError(f"{name}: stopped; nothing more is done there")

    def add(self, process: subprocess.Popen[bytes], group: bool) -> None:
        """Have a process end with the others; at once, if they have ended already."""
        with self._lock:
            self._processes[process] = group
            stopped = self._stopped
        if stopped:
            _end(process, group)

    def stop(self) -> None:
        """End all processes, and let none begin; stopping twice is harmless."""
        with self._lock:
            self._stopped = True
            processes = list(self._processes.items())
        for process, group in processes:
            _end(process, group)


_of_thread = threading.local()


@contextmanager
def stopped_by(stopper: Stopper) -> Iterator[None]:
    """Connections that this thread makes meanwhile end with the stopper."""
    _of_thread.stopper = stopper
    try:
        yield
    finally:
        del _of_thread.stopper


def current_stopper() -> Stopper:
    """The stopper that this thread works under; one that nobody uses where there is none."""
    return getattr(_of_thread, "stopper", None) or Stopper()


def end_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal a process that leads a group, and all in it: ssh may be a script, or have a proxy
    command that holds its output open.
    """
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def _end(process: subprocess.Popen[bytes], group: bool) -> None:
    if group:
        # Not killed: ssh says goodbye to the board and removes its socket.
        end_group(process, signal.SIGTERM)
    else:
        process.kill()
