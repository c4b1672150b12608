"""A page without scripts or links, a function of its data, which stands beside it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.device.agent.absent import is_measured
from headgate.device.files import atomic_write
from headgate.profiling.data import Page, build_report, read_page
from headgate.profiling.method_row import counts_differ
from headgate.profiling.report_csv import csv_tables
from headgate.profiling.views.cells import FILTERS
from headgate.profiling.views.latency import by_input, macs_spread
from headgate.profiling.views.page import build_view
from headgate.profiling.views.plots import mark

if TYPE_CHECKING:
    import jinja2

__all__ = ["Page", "build_report", "read_page", "render_html", "write_report"]


def write_report(path: str | Path, page: Page) -> list[Path]:
    """Write ``path`` (HTML), and beside it ``.json`` and the tables as ``.csv``.

    Example::

        report = build_report("ResNet-8 on my laptop", comparison=compare(["a.hgb", "b.hgb"]))
        write_report("report.html", report)

    Raises:
        StorageError: A file cannot be written; no half-written file is left.
    """
    path = Path(path)
    contents = {
        path.with_suffix(".html"): render_html(page),
        path.with_suffix(".json"): f"{json.dumps(page.to_json(), indent=1, ensure_ascii=False)}\n",
    }
    for ending, table in csv_tables(page).items():
        contents[path.with_name(f"{path.stem}{ending}.csv")] = table
    for target, text in contents.items():
        with atomic_write(target) as file:
            file.write(text.encode())
    return list(contents)


def render_html(page: Page) -> str:
    return f"{_environment().get_template('report.html.j2').render(build_view(page))}\n"


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("headgate.profiling", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        **FILTERS,
        "by_input": by_input,
        "counts_differ": counts_differ,
        "macs_spread": macs_spread,
        "mark": mark,
    }
    environment.tests["measured"] = is_measured
    return environment
