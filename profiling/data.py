"""The data behind a page: what was measured, of one program or many, on one machine or several."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headgate.device.agent.report import InstructionCount, Report
from headgate.device.agent_report import decode_agent_report, looks_like_agent_report
from headgate.device.schema import Mismatch, decode
from headgate.errors import InputError, MissingFile, why
from headgate.profiling.comparison import Comparison
from headgate.profiling.effort import Effort
from headgate.profiling.method_row import Row
from headgate.profiling.missing import Result

SCHEMA = 4


@dataclass(frozen=True)
class Page(Result):
    """What :func:`build_report` put together; its JSON stands beside the page."""

    schema: int
    title: str
    comparison: Comparison | None
    reports: list[Report]
    efforts: list[Effort]
    methods: list[Row]
    instructions: dict[str, InstructionCount]
    """Counts by network, beside those of the reports."""
    reproduce: list[str]


def build_report(
    title: str,
    *,
    comparison: Comparison | None = None,
    profiles: Sequence[Report] = (),
    efforts: Sequence[Effort] = (),
    methods: Sequence[Row] = (),
    instructions: Mapping[str, InstructionCount] | None = None,
    reproduce: Sequence[str] = (),
) -> Page:
    """The data of a page.

    Args:
        title: Headline of the page.
        comparison: Contestants timed in turn.
        profiles: What ``profile`` or the agent measured, here, emulated or on boards.
        efforts: Work per image of the dynamic networks.
        methods: Rows of the table of methods.
        instructions: Counts by network, beside those that the profiles have.
        reproduce: Shell commands that repeat the measurement.

    Raises:
        InputError: A profile is given twice.
    """
    for index, report in enumerate(profiles):
        if report in profiles[:index]:
            raise InputError(
                f"the report on {report.bundle.name} of {report.context.before.taken_utc} is "
                "given twice; leave one out"
            )
    return Page(
        schema=SCHEMA,
        title=title,
        comparison=comparison,
        reports=list(profiles),
        efforts=list(efforts),
        methods=list(methods),
        instructions=dict(instructions or {}),
        reproduce=list(reproduce),
    )


def read_page(path: Path) -> Page | Report:
    """What a page's JSON, or a report of the agent, holds.

    Raises:
        MissingFile, InputError: It is not there, cannot be read, or is of another version.
        DeviceError: A report in it is no report of the agent's.
    """
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise MissingFile(f"no report {path}; check the path") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON, or cut off: {why(error)}") from error
    if looks_like_agent_report(data):
        return decode_agent_report(data, str(path))
    if not isinstance(data, dict) or data.get("schema") != SCHEMA or "reports" not in data:
        raise InputError(
            f"{path} is not a report of this version; make it again: `headgate report` takes "
            "bundles, what `headgate profile BUNDLE -o FILE` writes, and its own .json"
        )
    reports = data["reports"] if isinstance(data["reports"], list) else []
    for number, report in enumerate(reports, 1):
        decode_agent_report(report, f"report {number} in {path}")
    try:
        return decode(Page, data)
    except Mismatch as error:
        raise InputError(f"{path}: {error}; make it again") from error
