"""The data of a page about boards, ready for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headgate.device.agent_report import check_agent_report
from headgate.errors import InputError

SCHEMA = 1


def build_board_report(
    title: str, reports: Sequence[Mapping[str, Any]], reproduce: Sequence[str] = ()
) -> dict[str, Any]:
    """The reports as they are, and how the page was made.

    Args:
        title: Headline of the page.
        reports: What :func:`headgate.device.agent_report.read_agent_report` returned, of one
            board or of several, in the order wanted.
        reproduce: Shell commands that make the page again.

    Raises:
        InputError: There are no reports, or one is given twice.
    """
    if not reports:
        raise InputError("no reports of boards; `headgate profile --on BOARD` makes one")
    seen: list[Mapping[str, Any]] = []
    for report in reports:
        if report in seen:
            raise InputError(
                f"the report on {report['bundle']['name']} of "
                f"{report['context']['before']['taken_utc']} is given twice; leave one out"
            )
        seen.append(report)
    return {
        "board_schema": SCHEMA,
        "title": title,
        "boards": [dict(report) for report in reports],
        "reproduce": list(reproduce),
    }


def check_board_report(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Check what was read back from the JSON beside a page, and return it.

    Args:
        data: The JSON.
        name: What errors call it.

    Raises:
        InputError: It is of another version, or altered.
        DeviceError: One of its reports is no report.
    """
    reports, commands = data.get("boards"), data.get("reproduce")
    whole = isinstance(reports, list) and isinstance(commands, list)
    if data.get("board_schema") != SCHEMA or not whole or not isinstance(data.get("title"), str):
        raise InputError(f"{name} is not a report of this version; make it again from the reports")
    assert isinstance(reports, list) and isinstance(commands, list)
    for number, report in enumerate(reports, 1):
        check_agent_report(report, f"report {number} in {name}")
    return build_board_report(data["title"], reports, [str(line) for line in commands])
