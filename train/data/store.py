"""Data sets that fit into memory: fetched once, checked by content, kept as one file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import safetensors.numpy
from safetensors import SafetensorError

from headgate.device.files import atomic_write, storage_error
from headgate.errors import DataError, HeadgateError, StorageError, why
from headgate.train.data.binary import Layout, from_folder
from headgate.train.data.dataset import Dataset
from headgate.train.progress import say


def data_folder() -> Path:
    """``HEADGATE_DATA`` if set, else ``~/.cache/headgate``."""
    named = os.environ.get("HEADGATE_DATA")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "headgate"


@dataclass(frozen=True)
class Store:
    """How one published data set is fetched, checked and kept.

    Attributes:
        layout: its own binary version.
        command: the name that `headgate data` knows it by, and of the file it is kept in.
        sources: each fetches into a folder and reads; one that fails is reported and the next
            one tried.
        check: says what is wrong with a data set, or None.
    """

    layout: Layout
    command: str
    sources: tuple[Callable[[Path], Dataset], ...]
    check: Callable[[Dataset], str | None]

    @property
    def title(self) -> str:
        return self.layout.title

    @property
    def file_name(self) -> str:
        return f"{self.command}.safetensors"

    def load(self, folder: str | Path | None = None) -> Dataset:
        """The data set from ``folder`` (default :func:`data_folder`), checked again.

        ``folder`` is where :meth:`fetch` stored it, or a user's own folder of the original files.

        Raises:
            DataError: if it is not there or altered, with the command that fetches it.
        """
        place = data_folder() if folder is None else Path(folder)
        stored = place / self.file_name
        if not stored.exists() and (place / self.layout.train[0]).exists():
            return self._verify(from_folder(place, self.layout), str(place))
        again = f"`headgate data {self.command}`"
        if not stored.exists():
            raise DataError(f"{self.title} is not in {place}: fetch it with {again}")
        try:
            dataset = Dataset(**safetensors.numpy.load_file(stored))
        except (SafetensorError, OSError, TypeError) as error:
            raise DataError(
                f"{stored} cannot be read ({why(error)}): remove it and run {again}"
            ) from error
        return self._verify(dataset, str(stored))

    def fetch(self, own: str | Path | None = None, folder: str | Path | None = None) -> Path:
        """Puts the data set into ``folder`` (default :func:`data_folder`); returns its file.

        Does nothing when it is there and whole. With ``own``, a folder of the original files, that
        is the only source. What an interrupted download left is used or cleared by the next call.

        Raises:
            DataError: if no source gave the data set, with one reason for each.
            StorageError: if it cannot be written.
        """
        place = data_folder() if folder is None else Path(folder)
        stored = place / self.file_name
        if stored.exists():
            try:
                self.load(place)
            except DataError as error:
                say(f"{error}; fetching it again")
            else:
                say(f"{self.title} is complete in {stored}")
                return stored
        incoming = place / "incoming" / self.command
        try:
            incoming.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error("create", incoming, error) from error
        if own is not None:
            dataset = self._verify(from_folder(Path(own), self.layout), str(own))
        else:
            dataset = self._first_that_works(incoming)
        with atomic_write(stored) as file:
            file.write(safetensors.numpy.save(dataset.arrays()))
        shutil.rmtree(incoming.parent, ignore_errors=True)
        say(f"{self.title} is complete in {stored}")
        return stored

    def _verify(self, dataset: Dataset, origin: str) -> Dataset:
        wrong = self.check(dataset)
        if wrong is not None:
            raise DataError(f"{origin} is not {self.title}: {wrong}")
        return dataset

    def _first_that_works(self, incoming: Path) -> Dataset:
        reasons = []
        for source in self.sources:
            try:
                return self._verify(source(incoming), "what was fetched")
            except StorageError:
                raise
            except HeadgateError as error:
                reasons.append(str(error))
                more = "; trying the next source" if len(reasons) < len(self.sources) else ""
                say(f"{error}{more}")
        raise DataError(f"{self.title} could not be fetched: " + "; ".join(reasons))
