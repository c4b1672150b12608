"""Where the results of a benchmark go: profiling/results/ and the page that shows its table.

Paths are those of a checkout, from whose root benchmarks are run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.markdown import replace_between_markers
from headgate.device.files import atomic_write, storage_error

RESULTS = Path("profiling/results")
README = Path("README.md")


def publish(
    name: str,
    results: Mapping[str, Any],
    table: str,
    page: Path = README,
    pieces: Mapping[str, str] | None = None,
) -> None:
    """Write NAME.json and NAME.md, and the table between the page's markers of that name.

    ``pieces``: what the page shows in its place, each between markers of a name of its own.

    Raises:
        StorageError: A file cannot be written.
    """
    try:
        RESULTS.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error("create", RESULTS, error) from error
    write_text(RESULTS / f"{name}.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    write_text(RESULTS / f"{name}.md", table)
    if page.is_file():
        text = page.read_text()
        for own, piece in (pieces or {name: table}).items():
            text = replace_between_markers(text, own, piece)
        write_text(page, text)


def earlier(name: str, part: str) -> dict[str, Any]:
    """A part of NAME.json as earlier runs left it; empty where there is none."""
    path = RESULTS / f"{name}.json"
    return dict(json.loads(path.read_text())[part]) if path.is_file() else {}


def with_earlier(
    name: str, networks: Mapping[str, Any], order: Iterable[str] | None = None
) -> dict[str, Any]:
    """``networks`` and those that NAME.json has from earlier runs.

    In the order given, which also says which of them are still wanted; else sorted.
    """
    found = {**earlier(name, "networks"), **networks}
    known = sorted(found) if order is None else order
    return {one: found[one] for one in known if one in found}


def without_runs(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """A comparison's JSON without its thousands of single runs, which the HTML report's has."""
    standings = [
        {key: value for key, value in one.items() if key != "latencies_us"}
        for one in comparison["standings"]
    ]
    return {**comparison, "standings": standings}


def write_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all.

    Raises:
        StorageError: It cannot be written.
    """
    with atomic_write(path) as file:
        file.write(text.encode())
