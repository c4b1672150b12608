"""Did the network have a CPU whenever it wanted one?

Of a single thread, its time on the CPU over the clock's time says so. Several threads sleep where
a layer is not shared, so the sum of their times says nothing: two that take turns on one CPU have
all of that CPU. Linux counts for every thread how long it had a CPU and how long it was ready to
run without one (``schedstat``), and the ratio of these is right for any mixture of layers: two
threads waited for 0.5 to 2 % of it on two free CPUs, and for half and more on one or busy ones.

Counts of involuntary context switches are no substitute: kernel threads cause 70 to 300 a second
where nothing is lost, and a program that takes half of a CPU 140 (an
experiment on Linux 6.18, as are the shares above).
"""

from __future__ import annotations

import contextlib
import statistics
import threading
from collections.abc import Sequence
from pathlib import Path

_FIRST_LOOK_S, _LAST_PAUSE_S = 0.05, 1.0


class Queue:
    """How long the threads of a process waited for a CPU.

    Args:
        pid: of the process.
        proc: where its files are.
    """

    def __init__(self, pid: int, proc: str | Path = "/proc") -> None:
        self._tasks = Path(proc) / str(pid) / "task"
        self._seen: dict[str, tuple[int, int]] = {}

    def watch(self, over: threading.Event) -> None:
        """Look until it is over: a thread's counts go with it.

        Each look is twice as late as the one before, so that short runs are seen and long ones
        are left alone.
        """
        pause_s = _FIRST_LOOK_S
        while not over.wait(pause_s):
            self.look()
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)

    def look(self) -> None:
        """Note how long each thread has run and waited so far."""
        # The process may end at any time, and not all kernels have the file.
        with contextlib.suppress(OSError):
            for task in list(self._tasks.iterdir()):
                with contextlib.suppress(OSError, ValueError):
                    ran_ns, waited_ns = (task / "schedstat").read_text().split()[:2]
                    self._seen[task.name] = int(ran_ns), int(waited_ns)

    def waited_share(self) -> float | None:
        """Share of the time in which a thread could have run that it had to wait.

        None if nothing was seen: the process was too short, or the kernel does not count.
        """
        ran_ns = sum(ran for ran, _ in self._seen.values())
        waited_ns = sum(waited for _, waited in self._seen.values())
        return waited_ns / (ran_ns + waited_ns) if ran_ns else None


def cpu_share(cpu_s: float, run_s: float, waited_shares: Sequence[float | None]) -> float:
    """Of the time of some runs, how much of it the network had the CPUs that it wanted.

    Args:
        cpu_s: time on CPUs, all threads together.
        run_s: time of the runs.
        waited_shares: of processes with several threads; None where it is not known.
    """
    # One thread at least never sleeps. Loading is in the CPU's time as well.
    share = min(1.0, cpu_s / run_s)
    known = [one for one in waited_shares if one is not None]
    return min(share, 1.0 - statistics.fmean(known)) if known else share
