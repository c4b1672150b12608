"""A verb on one machine, or on several at once: a row for each, one that fails stops no other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import typer

from headgate.cli.output import print_json, print_line, print_table, working
from headgate.device.machines.base import Machine
from headgate.device.machines.find import find_machine
from headgate.device.machines.fleet import Outcome, names_of, on_each

Result = TypeVar("Result")


def machines_of(text: str, threads: int = 1) -> Mapping[str, Machine]:
    """The machines that ``--on`` names, all known to have as many cores as there are threads."""
    machines = {name: find_machine(name) for name in names_of(text)}
    for machine in machines.values():
        machine.check_threads(threads)
    return machines


def work_on(
    names: Sequence[str],
    work: Callable[[str], Result],
    show: Callable[[Result], None],
    columns: Sequence[str],
    row: Callable[[Result], Sequence[object]],
    figures: Callable[[Result], Any],
    json: bool,
    notes: Callable[[Result], Sequence[str]] = lambda result: (),
) -> list[Result]:
    """Do ``work`` on each machine, and print its result, a table of several, or JSON.

    Args:
        show: prints the result of the only machine.
        columns: of the table, behind the machine's name; ``row`` is a result in them.
        figures: a result as JSON; of several it is name -> figures or error.
        notes: what is to be said of a result below the table.

    Raises:
        HeadgateError: the only machine failed.
        typer.Exit: with status 1, after all is printed, if any of several failed.
    """
    if len(names) == 1:
        result = work(names[0])
        if json:
            print_json(figures(result))
        else:
            show(result)
        return [result]
    outcomes = _on_each(names, work)
    results = {one.machine: one.result for one in outcomes if one.result is not None}
    errors = {one.machine: str(one.error) for one in outcomes if one.error is not None}
    if json:
        print_json(
            {
                name: {"error": errors[name]} if name in errors else figures(results[name])
                for name in names
            }
        )
    else:
        blank = ["failed", *[""] * (len(columns) - 1)]
        rows = [(name, *(row(results[name]) if name in results else blank)) for name in names]
        print_table(f"{len(names)} machines", ["machine", *columns], rows)
        for name, result in results.items():
            for line in notes(result):
                print_line(f"{name}: {line}")
    sys.stdout.flush()
    for name, message in errors.items():
        print(f"headgate: error: {name}: {' '.join(message.split())}", file=sys.stderr)
    if errors:
        raise typer.Exit(1)
    return list(results.values())


def _on_each(names: Sequence[str], work: Callable[[str], Result]) -> list[Outcome[Result]]:
    waiting = list(names)
    with working(f"working on {', '.join(names)}") as say:

        def finished(outcome: Outcome[Result]) -> None:
            waiting.remove(outcome.machine)
            word = "failed" if outcome.error else "done"
            rest = f", waiting for {', '.join(waiting)}" if waiting else ""
            say(f"{outcome.machine}: {word}{rest}")

        return on_each(names, work, finished)
