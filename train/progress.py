"""Progress for long work: a Rich bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time

from rich.progress import BarColumn, TimeRemainingColumn

from headgate.screen import Bars, standard_error

PLAIN_INTERVAL_S = 15.0


class Progress:
    """Counts work of a known or unknown ``total`` on standard error; ``quiet`` silences it.

    Example:
        with Progress("download", total=size, unit="MB", scale=1e-6) as progress:
            progress.advance(len(chunk))
    """

    def __init__(
        self,
        title: str,
        total: float | None,
        unit: str = "",
        scale: float = 1.0,
        quiet: bool = False,
    ) -> None:
        self.title = title
        self.total = None if total is None else total * scale
        self.unit = unit
        self.scale = scale
        self.quiet = quiet
        self.done = 0.0
        self._bar: Bars | None = None
        self._last_line_s = time.monotonic()

    def __enter__(self) -> Progress:
        console = standard_error()
        if console.is_terminal and not self.quiet:
            self._bar = Bars(
                console,
                "{task.description}",
                BarColumn(),
                "{task.fields[amount]}",
                TimeRemainingColumn(),
                "{task.fields[note]}",
                transient=True,
            )
            self._task = self._bar.add_task(self.title, total=self.total, amount="", note="")
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Adds ``amount`` (before scaling) to what is done; ``note`` replaces the text behind."""
        self.done += amount * self.scale
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, amount=self._amount(), note=note)
            return
        now_s = time.monotonic()
        if not self.quiet and now_s - self._last_line_s >= PLAIN_INTERVAL_S:
            self._last_line_s = now_s
            line = f"{self.title}: {self._amount()} {note}"
            print(line.rstrip(), file=sys.stderr, flush=True)

    def _amount(self) -> str:
        total = "" if self.total is None else f"/{self.total:.0f}"
        return f"{self.done:.0f}{total} {self.unit}".rstrip()


def say(text: str, quiet: bool = False) -> None:
    """One plain line of progress on standard error."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)
