"""Which CPUs a program may run on, and whether it had one whenever it wanted one.

Several threads sleep where a layer is not shared, so the sum of their times says nothing. Linux
counts for every thread how long it had a CPU and how long it was ready without one
(``schedstat``): two threads waited for 0.5 to 2 % of that on two free CPUs, and for half and more
on one or busy ones. Involuntary context switches are no substitute: kernel threads cause 70 to
300 a second where nothing is lost, a program that takes half of a CPU 140 (Linux 6.18).
"""

from __future__ import annotations

import contextlib
import os
import statistics
import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from .errors import UsageError

_FIRST_LOOK_S, _LAST_PAUSE_S = 0.05, 1.0


def parse_cpus(text: str) -> frozenset[int]:
    """``"3"``, ``"2,3"`` and ``"0-1,4"`` as taskset takes them."""
    cpus: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        try:
            start = int(first)
            stop = int(last) if dash else start
        except ValueError:
            raise UsageError(f"--cpus {text!r}: write a list such as 3 or 0-1,3") from None
        if not 0 <= start <= stop < 1 << 16:
            raise UsageError(f"--cpus {text!r}: {part!r} is no range of CPUs")
        cpus.update(range(start, stop + 1))
    return frozenset(cpus)


def choose_cpus(
    threads: int, wanted: frozenset[int] | None = None, allowed: Collection[int] | None = None
) -> frozenset[int]:
    """The CPUs wanted, or the highest allowed, one for each thread: interrupts land on the lowest.

    Empty where the system has no affinity call.
    """
    if allowed is None:
        if not hasattr(os, "sched_getaffinity"):
            return frozenset()
        allowed = os.sched_getaffinity(0)
    if wanted is not None and not wanted <= set(allowed):
        outside = ", ".join(str(cpu) for cpu in sorted(wanted - set(allowed)))
        listed = ", ".join(str(cpu) for cpu in sorted(allowed))
        raise UsageError(f"CPU {outside} is not available; this process may use {listed}")
    chosen = sorted(allowed)[-threads:] if wanted is None else sorted(wanted)
    if len(chosen) < threads:
        raise UsageError(f"{threads} threads want as many CPUs, there are {len(chosen)}")
    return frozenset(chosen)


@contextlib.contextmanager
def pinned(cpus: Collection[int]) -> Iterator[None]:
    """Keep the calling thread, and what it starts meanwhile, on these CPUs; none: on any."""
    if not cpus:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Queue:
    """How long the threads of a process waited for a CPU."""

    def __init__(self, pid: int, proc: str | Path = "/proc") -> None:
        self._tasks = Path(proc) / str(pid) / "task"
        self._seen: dict[str, tuple[int, int]] = {}

    def watch(self, over: threading.Event) -> None:
        """Look until it is over, each time twice as late: a thread's counts go with it."""
        pause_s = _FIRST_LOOK_S
        while not over.wait(pause_s):
            self.look()
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)

    def look(self) -> None:
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

    ``cpu_s`` is of all threads together; ``waited_shares`` are None where they are not known.
    """
    # One thread at least never sleeps. Loading is in the CPU's time as well.
    share = min(1.0, cpu_s / run_s)
    known = [one for one in waited_shares if one is not None]
    return min(share, 1.0 - statistics.fmean(known)) if known else share
