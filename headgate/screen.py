"""Rich without its markup, which would swallow the brackets of ``headgate[peers]``."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import Progress, ProgressColumn, TextColumn

# Columns of a file or a pipe, which have no width of their own.
FILE_WIDTH = 120


def standard_output() -> Console:
    """Made anew for each use, as :func:`standard_error` is, so that a redirected one is seen."""
    width = None if sys.stdout.isatty() else FILE_WIDTH
    return Console(highlight=False, markup=False, emoji=False, width=width)


def standard_error() -> Console:
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


class Bars(Progress):
    """Progress bars on a console; a string is a format, such as ``{task.description}``."""

    def __init__(
        self, console: Console, *columns: str | ProgressColumn, transient: bool = False
    ) -> None:
        whole = (TextColumn(one, markup=False) if isinstance(one, str) else one for one in columns)
        super().__init__(*whole, console=console, transient=transient)
