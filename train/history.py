"""The log of a run: one row an epoch, as CSV and, when installed, for TensorBoard."""

from __future__ import annotations

import contextlib
import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from headgate.device.files import atomic_write, storage_error

COLUMNS = (
    "epoch",
    "density",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "test_accuracy",
    "kept_channels",
    "seconds",
)
CSV_NAME = "log.csv"

Row = dict[str, float]


class History:
    """Writes the rows of a run into its folder, or only collects them if ``write`` is False.

    The CSV is written anew each time from rows that live in the run's state, so a run that resumes
    in the middle of an epoch leaves no row twice. What cannot be written is a StorageError.
    """

    def __init__(self, folder: Path, rows: list[Row], write: bool = True) -> None:
        self.folder = folder
        self.rows = rows
        self.write = write
        self._board: Any = None
        if not write:
            return
        try:
            # Its writer would load the whole of TensorFlow where that is installed; this marker is
            # how TensorBoard's own builds without TensorFlow ask for the built-in substitute.
            sys.modules.setdefault("tensorboard.compat.notf", ModuleType("notf"))
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:  # TensorBoard is an extra; the CSV has everything.
            return
        with self._reporting():
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=len(rows))

    def append(self, row: Row) -> None:
        self.rows.append(row)
        if not self.write:
            return
        write_csv(self.folder / CSV_NAME, self.rows)
        if self._board is not None:
            with self._reporting():
                for name in COLUMNS[1:]:
                    self._board.add_scalar(name, row[name], int(row["epoch"]))
                self._board.flush()

    def close(self) -> None:
        if self._board is not None:
            with self._reporting():
                self._board.close()

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise storage_error("write", self.folder / "tensorboard", error) from error


def write_csv(path: Path, rows: list[Row]) -> None:
    """Writes ``rows`` with :data:`COLUMNS` as the header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{row[name]:.6g}" for name in COLUMNS})
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def read_csv(path: Path) -> list[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
