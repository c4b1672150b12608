"""Tables in Markdown, and their places between markers in the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headgate.device.agent.absent import is_measured


def table(header: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A table whose first ``texts`` columns are text and whose others are numbers."""
    rule = ["---"] * texts + ["---:"] * (len(header) - texts)
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, rule, *rows])


def replace_between_markers(text: str, name: str, content: str) -> str:
    """``text`` with ``content`` between the markers of ``name``; unchanged if it has none."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, has_begin, rest = text.partition(begin)
    _, has_end, after = rest.partition(end)
    return f"{before}{begin}\n{content}{end}{after}" if has_begin and has_end else text


def median(summary: Mapping[str, Any]) -> float:
    """Of a series as results keep it."""
    return float(summary["percentiles"]["p50"]["value"])


def circumstances(contexts: Sequence[Mapping[str, Any]]) -> str:
    """One sentence on the machine, the load while measuring, and the versions."""
    first = contexts[0]
    cpu = first["cpu"] if is_measured(first["cpu"]) else first["architecture"]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(first["versions"].items()))
    loads = [one["load_1min"] for one in contexts if is_measured(one["load_1min"])]
    load = f", load {min(loads):.1f} to {max(loads):.1f}" if loads else ""
    days = sorted({one["taken_utc"][:10] for one in contexts})
    taken = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"{cpu} ({first['cpu_count']} CPUs{load}), {first['kernel']}, {taken}; {versions}."
