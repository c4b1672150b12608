"""What a sweep writes down: one JSON object for each network, one line each."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from headgate.device.files import atomic_write
from headgate.errors import HeadgateError


class Record(dict[str, Any]):
    """Findings about a network, in a file after each, should the process be killed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def note(self, **found: Any) -> None:
        self.update(found)
        with atomic_write(self._path) as file:
            file.write(json.dumps(self).encode())


def fault(error: BaseException) -> dict[str, Any]:
    """An exception as a finding: its class, its message, and a traceback if it is not ours."""
    ours = isinstance(error, HeadgateError)
    trace = {} if ours else {"traceback": "".join(traceback.format_exception(error))[-3000:]}
    return {"kind": type(error).__name__, "ours": ours, "message": str(error)[:1000], **trace}


def read_lines(path: Path) -> dict[str, dict[str, Any]]:
    """The records of a file by network, the last of each; a line cut off by a crash is left out."""
    records = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        records[record["name"]] = record
    return records


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Append one record."""
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def write_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Replace a file by these records."""
    with atomic_write(path) as file:
        file.write("".join(json.dumps(one) + "\n" for one in records).encode())
