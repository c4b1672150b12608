"""Which CPUs a program may run on."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from .errors import UsageError


def parse_cpus(text: str) -> frozenset[int]:
    """``"3"``, ``"2,3"`` and ``"0-1,4"`` as taskset takes them.

    Raises:
        UsageError: it is no such list.
    """
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
    """The CPUs to measure on: those wanted, or the highest allowed, one for each thread.

    The highest, because interrupts mostly land on the lowest. Empty where the system has no
    affinity call.

    Raises:
        UsageError: too few CPUs, or one that this process must not use.
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


@contextmanager
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
