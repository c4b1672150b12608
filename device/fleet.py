"""The same work on several machines at once, one thread each.

Plain ssh in parallel rather than TVM's RPC tracker: bundles need no TVM on the board, and a
tracker would be one more server to run, reachable by whoever is on the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Generic, TypeVar

from headgate.device.boards import ALL, INVENTORY, inventory
from headgate.errors import HeadgateError, UsageError

Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What came of it on one machine: a result, or the error."""

    machine: str
    result: Result | None
    error: HeadgateError | None = None


def names_of(text: str) -> list[str]:
    """Names of machines: one, several with commas between, or ``all`` boards of the inventory.

    Raises:
        UsageError: it names nothing, or a name twice.
    """
    names = [name.strip() for name in text.split(",")]
    if ALL in names:
        names = [one for name in names for one in (inventory() if name == ALL else [name])]
        if not names:
            raise UsageError(f"--on {ALL}: there is no {INVENTORY} that names a board")
    if not all(names):
        raise UsageError(f"{text!r}: a name is missing between the commas")
    if len(set(names)) < len(names):
        raise UsageError(f"{text!r} names a machine twice")
    return names


def on_each(
    names: Sequence[str],
    work: Callable[[str], Result],
    finished: Callable[[Outcome[Result]], None] = lambda outcome: None,
) -> list[Outcome[Result]]:
    """Do ``work`` on each machine at the same time; one that fails does not stop the others.

    Args:
        names: the machines.
        work: what to do on one.
        finished: told of each machine when it is done, one at a time.

    Returns:
        What came of it, in the order of ``names``.
    """

    def attempt(name: str) -> Outcome[Result]:
        try:
            return Outcome(name, work(name))
        except HeadgateError as error:
            return Outcome(name, None, error)

    with ThreadPoolExecutor(max_workers=len(names), thread_name_prefix="board") as pool:
        attempts = [pool.submit(attempt, name) for name in names]
        for attempted in as_completed(attempts):
            finished(attempted.result())
        return [attempted.result() for attempted in attempts]
