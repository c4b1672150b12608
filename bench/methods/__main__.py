"""``python -m bench.methods``: the table of methods, measured here.

Networks are prepared in one process and timed in another that never imports torch, TVM or
TensorFlow's converter. Leaves ``methods.json`` and ``methods.md`` in profiling/results/, the table
in README.md between its markers, and a page with the plots in build/methods/NETWORK/report.html.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.methods import table
from bench.methods.measure import Findings, measure
from bench.methods.networks import PLAN, find_checkpoints, prepare, read_plan
from bench.publish import publish, with_earlier, without_runs
from headgate.device.agent.absent import to_json
from headgate.errors import HeadgateError
from headgate.profiling.data import Page
from headgate.profiling.effort import Effort
from headgate.profiling.report import build_report, write_report

BUILD = Path("build/methods")
MODULE = "bench.methods"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog=MODULE, description=__doc__)
    parser.add_argument("networks", nargs="*", default=["resnet8"], help="resnet8 by default")
    parser.add_argument("--reuse", action="store_true", help="keep what build/methods/ has")
    parser.add_argument("--rounds", type=int, help="timed rounds; fitted to the time if unset")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        if options.measure:
            run(options.networks, options.rounds, options.json)
            return 0
        for network in options.networks:
            find_checkpoints(network)  # a wrong name is found before minutes of compiling
        for network in options.networks:
            folder = BUILD / network
            if not (options.reuse and (folder / PLAN).is_file()):
                prepare(network, folder, say)
        command = [sys.executable, "-m", MODULE, "--measure", *options.networks]
        command += ["--rounds", str(options.rounds)] if options.rounds else []
        command += ["--json"] if options.json else []
        return subprocess.run(command, check=False).returncode
    except HeadgateError as error:
        print(f"methods: {error}", file=sys.stderr)
        return error.exit_code


def run(networks: Sequence[str], rounds: int | None, as_json: bool) -> None:
    """Measure what was prepared and write all results."""
    measured = {}
    for network in networks:
        folder = BUILD / network
        entries, missing = read_plan(folder)
        findings = measure(network, entries, folder, rounds, say)
        report = write_report(folder / "report.html", _report(network, findings))
        measured[network] = _results(findings, missing)
        for warning in findings.warnings:
            say(f"warning: {warning}")
        say(f"plots: {report[0]}")
    results = {"schema": 1, "networks": with_earlier("methods", measured)}
    text = table.render(results)
    publish("methods", results, text)
    print(json.dumps(results, indent=1, ensure_ascii=False) if as_json else text)


def _report(network: str, findings: Findings) -> Page:
    return build_report(
        f"{network}: dense, gated and pruned",
        comparison=findings.comparison,
        profiles=findings.profiles,
        efforts=findings.efforts,
        methods=findings.rows,
        reproduce=[f"python -m {MODULE} {network}"],
    )


def _results(findings: Findings, missing: dict[str, str]) -> dict[str, Any]:
    comparison = without_runs(findings.comparison.to_json())
    return {
        "rows": [to_json(row) for row in findings.rows],
        "work_per_image": [_without_pictures(one) for one in findings.efforts],
        "counted_images": findings.counted_images,
        "timed_images": comparison["images"],
        "rounds": comparison["rounds"],
        "context": comparison["context"],
        "warnings": findings.warnings,
        "missing": missing,
    }


def _without_pictures(effort: Effort) -> dict[str, Any]:
    dropped = ("cheapest", "dearest")
    return {key: value for key, value in effort.to_json().items() if key not in dropped}


def say(line: str) -> None:
    """One line of progress, kept apart from the results."""
    print(f"methods: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
