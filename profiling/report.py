"""A measurement as one self-contained page, with the same data as JSON and CSV.

The page is a function of the JSON: rendering it again gives the same bytes. It has no script and
refers to no other file, so it opens anywhere.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from headgate.device.files import atomic_write
from headgate.profiling.absent import is_measured, to_json
from headgate.profiling.comparison import Comparison
from headgate.profiling.instructions import InstructionCount
from headgate.profiling.profile import Profile
from headgate.profiling.view import build_view

SCHEMA = 1


def build_report(
    title: str,
    *,
    comparison: Comparison | None = None,
    profiles: Sequence[Profile] = (),
    instructions: Mapping[str, InstructionCount] | None = None,
    reproduce: Sequence[str] = (),
) -> dict[str, Any]:
    """The data of a report, ready for JSON.

    Args:
        title: Headline of the page.
        comparison: Contestants timed in turn; the verdict table.
        profiles: Layer tables; a gated one is held against the first dense one.
        instructions: Counts by network, beside those that the profiles have.
        reproduce: Shell commands that repeat the measurement.
    """
    return {
        "schema": SCHEMA,
        "title": title,
        "comparison": comparison.to_json() if comparison else None,
        "profiles": [profile.to_json() for profile in profiles],
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
    """Write ``path`` (HTML) and beside it ``.json``, ``.csv`` and ``-layers.csv``.

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
        page.with_suffix(".csv"): render_standings_csv(data),
        page.with_name(f"{page.stem}-layers.csv"): render_layers_csv(data),
    }
    for target, text in contents.items():
        with atomic_write(target) as file:
            file.write(text.encode())
    return list(contents)


def render_html(data: Mapping[str, Any]) -> str:
    """The page."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("headgate.profiling", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(build_view(data)) + "\n"


def render_standings_csv(data: Mapping[str, Any]) -> str:
    """One line per contestant; an empty field is a value that was not measured."""
    header = (
        "name,kind,runs,median_us,low_us,high_us,p95_us,spread_us,speedup,dense_macs,done_macs,"
        "arithmetic_speedup,macs_saved,time_saved,realised,accuracy,top1_agreement,sha256"
    )
    rows = []
    for one in (data["comparison"] or {}).get("standings", []):
        latency = one["latency_us"]
        values = [one["name"], one["kind"]]
        values += [latency[key] for key in ("count", "median", "low", "high", "p95", "spread")]
        values += [one["speedup"]["median"], one["dense_macs"], one["done_macs"]]
        values += [one[key] for key in ("arithmetic_speedup", "macs_saved", "time_saved")]
        realised = one["realised"]
        values += [realised["median"] if is_measured(realised) else realised]
        values += [one["accuracy"], one["top1_agreement"], one["sha256"]]
        rows.append(values)
    return _csv(header, rows)


def render_layers_csv(data: Mapping[str, Any]) -> str:
    """One line per layer of every profile."""
    header = (
        "network,machine,layer,operator,is_gate,time_us,dense_macs,done_macs,channels,"
        "active_channels_mean,active_inputs"
    )
    rows = []
    for profile in data["profiles"]:
        for layer in profile["layers"]:
            active = layer["active_channels"]
            rows.append(
                [
                    profile["name"],
                    profile["machine"],
                    *(layer[key] for key in ("name", "operator", "is_gate", "time_us")),
                    *(layer[key] for key in ("dense_macs", "done_macs", "channels")),
                    None if active is None else sum(active) / len(active),
                    layer["active_inputs"],
                ]
            )
    return _csv(header, rows)


def _csv(header: str, rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    text.write(f"{header}\n")
    for row in rows:
        writer.writerow("" if value is None or not is_measured(value) else value for value in row)
    return text.getvalue()
