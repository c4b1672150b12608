"""`headgate doctor`: what is installed, what is missing, and the command that brings it."""

from __future__ import annotations

from typing import Annotated

import typer

from headgate.cli.options import Json
from headgate.cli.output import BAD_RESULT, next_step, print_json, print_line, print_table
from headgate.doctor import examine


def doctor(
    json: Json = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 3 when anything at all is missing.")
    ] = False,
) -> None:
    """Say what is installed, what is missing, and the command that brings it."""
    findings = examine()
    missing = [finding for finding in findings if not finding.found]
    if json:
        print_json({"findings": findings, "missing": [finding.name for finding in missing]})
    else:
        print_table(
            "headgate doctor",
            ["", "name", "version", "needed for", "how to get it"],
            [
                (
                    "ok" if finding.found else "missing",
                    finding.name,
                    finding.version,
                    finding.purpose,
                    "" if finding.found else finding.remedy,
                )
                for finding in findings
            ],
        )
        for finding in findings:
            if finding.remark:
                print_line(f"{finding.name}: {finding.remark}")
        can_compile = not any(finding.group == "compile" for finding in missing)
        next_step("headgate demo" if can_compile else "pip install 'headgate[compile]'")
    if strict and missing:
        raise typer.Exit(BAD_RESULT)
