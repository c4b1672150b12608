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
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from headgate.device.agent.absent import NotMeasured, to_json
from headgate.device.files import atomic_write
from headgate.screen import standard_error, standard_output

BAD_RESULT = 3
"""Exit code of what ran and found something bad."""
NOTE_AFTER_S = 1.0
# Columns of text are not made narrower than this.
_NARROWEST = 12
_BETWEEN = 3
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
    """Prints a table; columns whose cells are all numbers are aligned to the right.

    What is missing stays blank. Cells are never cut off: text is broken, or the table gets wide.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    table = Table(
        title=title, title_justify="left", title_style="bold", header_style="", box=SIMPLE_HEAD
    )
    least = 1
    for index, column in enumerate(columns):
        numeric = bool(cells) and all(_is_number(row[index]) for row in cells)
        unbroken = numeric or not index
        widest = max(cell_len(text) for text in (column, *(row[index] for row in cells)))
        narrowest = widest if unbroken else min(widest, _NARROWEST)
        least += narrowest + _BETWEEN
        table.add_column(
            column,
            justify="right" if numeric else "left",
            no_wrap=unbroken,
            overflow="fold",
            min_width=narrowest,
        )
    for row in cells:
        table.add_row(*row)
    screen = standard_output()
    screen.width = max(screen.width, least)
    screen.print(table)


def print_line(text: str) -> None:
    standard_output().print(text, soft_wrap=True)


def next_step(command: str) -> None:
    """Prints the command that a user would try next."""
    standard_output().print(Text.assemble("\nnext: ", (command, "bold")), soft_wrap=True)


def on_machine(command: str, machine: str) -> str:
    """``command`` with ``--on``, which host does without."""
    return command if machine == "host" else f"{command} --on {machine}"


def note(text: str) -> None:
    """Says on standard error what is being done, with the time since the program started."""
    print(f"[{time.monotonic() - _STARTED_S:5.1f} s] {text}", file=sys.stderr, flush=True)


@contextmanager
def working(text: str) -> Iterator[Callable[[str], None]]:
    """Shows that something takes a while: a spinner on a terminal, a line elsewhere.

    The line comes after a moment: what fails at once prints its error alone. Yields what says how
    far it is, beside the spinner or below that line.
    """
    stderr = standard_error()
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


def _cell(value: object) -> str:
    if value is None or isinstance(value, NotMeasured):
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _is_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "").strip("-+x% ").isdigit() or text in {"", "-"}
