"""A verb on several machines at once: a row for each, and one that fails stops no other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from headgate.cli.output import print_json, print_line, print_table, working

if TYPE_CHECKING:
    from headgate.device.machines.fleet import Outcome

Result = TypeVar("Result")


def on_several(
    names: Sequence[str],
    work: Callable[[str], Result],
    columns: Sequence[str],
    row: Callable[[Result], Sequence[object]],
    figures: Callable[[Result], Any],
    json: bool,
    notes: Callable[[Result], Sequence[str]] = lambda result: (),
) -> list[Result]:
    """Do ``work`` on each machine and print a table, or JSON: name -> figures or error.

    Args:
        names: the machines.
        work: what to do on one.
        columns: of the table, behind the machine's name.
        row: a result as cells of these columns.
        figures: a result as JSON.
        json: whether to print that.
        notes: what is to be said of a result below the table.

    Returns:
        The results, when there are as many as machines.

    Raises:
        typer.Exit: with status 1, after all is printed, if any machine failed.
    """
    from headgate.device.machines.fleet import on_each

    with working(f"working on {', '.join(names)}") as say:
        waiting = list(names)

        def finished(outcome: Outcome[Result]) -> None:
            waiting.remove(outcome.machine)
            word = "failed" if outcome.error else "done"
            rest = f", waiting for {', '.join(waiting)}" if waiting else ""
            say(f"{outcome.machine}: {word}{rest}")

        outcomes = on_each(names, work, finished)
    results = [outcome.result for outcome in outcomes if outcome.result is not None]
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if json:
        print_json(
            {
                outcome.machine: (
                    {"error": str(outcome.error)}
                    if outcome.result is None
                    else figures(outcome.result)
                )
                for outcome in outcomes
            }
        )
    else:
        blank = ["failed", *[""] * (len(columns) - 1)]
        rows = [
            (outcome.machine, *(blank if outcome.result is None else row(outcome.result)))
            for outcome in outcomes
        ]
        print_table(f"{len(names)} machines", ["machine", *columns], rows)
        for outcome in outcomes:
            for line in () if outcome.result is None else notes(outcome.result):
                print_line(f"{outcome.machine}: {line}")
    sys.stdout.flush()
    for outcome in failed:
        message = " ".join(str(outcome.error).split())
        print(f"headgate: error: {outcome.machine}: {message}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)
    return results
