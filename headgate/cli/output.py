"""What commands print: tables and hints for people, JSON for programs."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headgate.device.files import atomic_write
from headgate.profiling.absent import to_json

# Columns of a file or a pipe, which have no width of their own.
FILE_WIDTH = 120
NOTE_AFTER_S = 1.0
_STARTED_S = time.monotonic()


def print_json(payload: Any) -> None:
    """Prints ``payload``, data classes and arrays included, as one JSON document."""
    print(_json_text(payload))


def write_json(path: Path, payload: Any) -> None:
    """Writes what :func:`print_json` prints to a file, whole or not at all."""
    with atomic_write(path) as file:
        file.write(f"{_json_text(payload)}\n".encode())


def _json_text(payload: Any) -> str:
    return json.dumps(to_json(payload), indent=1, allow_nan=False, default=str)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table; columns whose cells are all numbers are aligned to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    table = Table(
        title=title, title_justify="left", title_style="bold", header_style="", box=SIMPLE_HEAD
    )
    for index, column in enumerate(columns):
        numeric = bool(cells) and all(_is_number(row[index]) for row in cells)
        table.add_column(
            column, justify="right" if numeric else "left", no_wrap=numeric or not index
        )
    for row in cells:
        table.add_row(*row)
    console().print(table)


def print_line(text: str) -> None:
    """Prints a line of text as it is."""
    console().print(text, markup=False, highlight=False, soft_wrap=True)


def next_step(command: str) -> None:
    """Prints the command that a user would try next."""
    console().print(f"\nnext: [bold]{command.replace('[', chr(92) + '[')}[/bold]", soft_wrap=True)


def on_machine(command: str, machine: str) -> str:
    """``command`` with ``--on``, which host does without."""
    return command if machine == "host" else f"{command} --on {machine}"


def note(text: str) -> None:
    """Says on standard error what is being done, with the time since the program started."""
    print(f"[{time.monotonic() - _STARTED_S:5.1f} s] {text}", file=sys.stderr, flush=True)


@contextmanager
def working(text: str) -> Iterator[Callable[[str], None]]:
    """Shows that something takes a while: a spinner on a terminal, one line elsewhere.

    The line comes after a moment only, so that what fails at once prints its error alone.

    Yields:
        What says how far it is: beside the spinner, elsewhere a line if the first one was printed.
    """
    stderr = Console(stderr=True, highlight=False)
    if stderr.is_terminal:
        with stderr.status(Text(text)) as status:
            yield lambda more: status.update(Text(more))
        return
    timer = threading.Timer(NOTE_AFTER_S, note, (text,))
    timer.start()
    try:
        yield lambda more: None if timer.is_alive() else note(more)
    finally:
        timer.cancel()


def console() -> Console:
    """Standard output; made anew for each use, so that a redirected one is seen."""
    width = None if sys.stdout.isatty() else FILE_WIDTH
    return Console(highlight=False, width=width)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _is_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "").strip("-+x% ").isdigit() or text in {"", "-"}
