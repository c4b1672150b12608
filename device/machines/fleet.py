"""The same work on several machines at once, one thread each."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

from headgate.device.boards import ALL, INVENTORY, find_board, inventory
from headgate.device.machines.ssh.stopping import Stopper, stopped_by
from headgate.errors import HeadgateError, UsageError

STOP_S = 3.0
"""How long threads have to end what they do when it is stopped."""

# A number behind one is the speed of a serial port.
_COMMA = re.compile(r",(?!\s*\d+\s*(?:,|$))")

Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What came of it on one machine: a result, or the error."""

    machine: str
    result: Result | None
    error: HeadgateError | None = None


def names_of(text: str) -> list[str]:
    """Names of machines: one, several with commas between, or ``all`` boards of the inventory.

    A UsageError: it names nothing, a name twice, or a board by two names.
    """
    names = [name.strip() for name in _COMMA.split(text)]
    if ALL in names:
        names = [one for name in names for one in (inventory() if name == ALL else [name])]
        if not names:
            raise UsageError(f"--on {ALL}: there is no {INVENTORY} that names a board")
    if not all(names):
        raise UsageError(f"{text!r}: a name is missing between the commas")
    if len(set(names)) < len(names):
        raise UsageError(f"{text!r} names a machine twice")
    if len(names) > 1:
        _check_addresses(names)
    return names


def _check_addresses(names: Sequence[str]) -> None:
    """Two names of one board would measure it while it is busy with the other's work."""
    known, seen = inventory(), dict[tuple[str, int], str]()
    for name in names:
        board = find_board(name) if "@" in name else known.get(name)
        if board is None:
            continue
        if (other := seen.setdefault(board.address.place, name)) != name:
            raise UsageError(f"{other} and {name} are one board, {board.address}; leave one out")


def on_each(
    names: Sequence[str],
    work: Callable[[str], Result],
    finished: Callable[[Outcome[Result]], None] = lambda outcome: None,
) -> list[Outcome[Result]]:
    """Do ``work`` on each machine at the same time; one that fails does not stop the others.

    ``finished`` is told of each when it is done, one at a time; the result is in ``names``' order.
    A KeyboardInterrupt closes the connections, and with them ends what runs on the boards.
    """
    stopper = Stopper()
    ended: SimpleQueue[Outcome[Result] | BaseException] = SimpleQueue()

    def attempt(name: str) -> None:
        with stopped_by(stopper):
            try:
                ended.put(Outcome(name, work(name)))
            except HeadgateError as error:
                ended.put(Outcome(name, None, error))
            except BaseException as error:
                ended.put(error)

    # Not a pool: Python waits for a pool's threads before it ends, however long they take.
    threads = [
        threading.Thread(target=attempt, args=(name,), name=f"board {name}", daemon=True)
        for name in names
    ]
    outcomes: dict[str, Outcome[Result]] = {}
    try:
        for thread in threads:
            thread.start()
        while len(outcomes) < len(names):
            outcome = ended.get()
            if isinstance(outcome, BaseException):
                raise outcome
            outcomes[outcome.machine] = outcome
            finished(outcome)
    except BaseException as error:
        # A second interrupt is impatience, and changes nothing about what is to be done.
        with suppress(KeyboardInterrupt):
            stopper.stop()
            _wait(threads, STOP_S)
        # Where Python waits for a Condition, two interrupts in a row come out as a RuntimeError.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise
    return [outcomes[name] for name in names]


def _wait(threads: Sequence[threading.Thread], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for thread in threads:
        if thread.ident is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
