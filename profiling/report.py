"""A measurement as one self-contained page, with the same data as JSON and CSV.

The page is a function of the JSON: rendering it again gives the same bytes. It has no script and
refers to no other file, so it opens anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headgate.device.files import atomic_write
from headgate.profiling.absent import to_json
from headgate.profiling.boards.tables import board_csv_tables
from headgate.profiling.boards.view import build_board_view
from headgate.profiling.comparison import Comparison
from headgate.profiling.effort import Effort
from headgate.profiling.instructions import InstructionCount
from headgate.profiling.profile import Profile
from headgate.profiling.report_csv import csv_tables
from headgate.profiling.view import build_view

if TYPE_CHECKING:
    import jinja2

SCHEMA = 2


def build_report(
    title: str,
    *,
    comparison: Comparison | None = None,
    profiles: Sequence[Profile] = (),
    efforts: Sequence[Effort] = (),
    methods: Sequence[Mapping[str, Any]] = (),
    instructions: Mapping[str, InstructionCount] | None = None,
    reproduce: Sequence[str] = (),
) -> dict[str, Any]:
    """The data of a report, ready for JSON.

    Args:
        title: Headline of the page.
        comparison: Contestants timed in turn; the verdict table.
        profiles: Layer tables; a gated one is held against the first dense one.
        efforts: Work per image of the dynamic networks.
        methods: Rows of the table of methods (:mod:`headgate.profiling.method_row`), as JSON.
        instructions: Counts by network, beside those that the profiles have.
        reproduce: Shell commands that repeat the measurement.
    """
    return {
        "schema": SCHEMA,
        "title": title,
        "comparison": comparison.to_json() if comparison else None,
        "profiles": [profile.to_json() for profile in profiles],
        "efforts": [effort.to_json() for effort in efforts],
        "methods": list(methods),
        "instructions": to_json(_counts(profiles, instructions or {})),
        "reproduce": list(reproduce),
    }


def _counts(
    profiles: Sequence[Profile], others: Mapping[str, InstructionCount]
) -> dict[str, InstructionCount]:
    found = dict(others)
    for profile in profiles:
        if isinstance(profile.instructions, InstructionCount):
            found[profile.name] = profile.instructions
    return found


def write_report(path: str | Path, data: Mapping[str, Any]) -> list[Path]:
    """Write ``path`` (HTML), and beside it ``.json`` and the tables as ``.csv``.

    ``data`` is of :func:`build_report`, or of :func:`~headgate.profiling.build_board_report`.

    Example::

        report = build_report("ResNet-8 on my laptop", comparison=compare(["a.hgb", "b.hgb"]))
        write_report("report.html", report)

    Raises:
        StorageError: A file cannot be written; no half-written file is left.
    """
    page = Path(path)
    contents = {
        page.with_suffix(".html"): render_html(data),
        page.with_suffix(".json"): json.dumps(data, indent=1, ensure_ascii=False) + "\n",
    }
    tables = board_csv_tables(data) if "boards" in data else csv_tables(data)
    for ending, table in tables.items():
        contents[page.with_name(f"{page.stem}{ending}.csv")] = table
    for target, text in contents.items():
        with atomic_write(target) as file:
            file.write(text.encode())
    return list(contents)


def render_html(data: Mapping[str, Any]) -> str:
    """The page."""
    if "boards" in data:
        page = _environment().get_template("boards.html.j2").render(build_board_view(data))
    else:
        page = _environment().get_template("report.html.j2").render(build_view(data))
    return f"{page}\n"


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("headgate.profiling", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
