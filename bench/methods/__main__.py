"""``python -m bench.methods``: the table of methods, measured here.

Networks are prepared in one process and timed in another that never imports torch, TVM or
TensorFlow's converter. Leaves ``methods.json`` and ``methods.md`` in profiling/results/, the table
in README.md between its markers, and a page with the plots in build/methods/NETWORK/report.html.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.command import Benchmark
from bench.methods import table
from bench.methods.measure import Findings, measure
from bench.methods.networks import PLAN, find_checkpoints, prepare, read_plan
from bench.publish import publish, with_earlier, without_runs
from bench.speed.machine import machine_name
from headgate.device.agent.absent import to_json
from headgate.profiling.data import Page
from headgate.profiling.effort import Effort
from headgate.profiling.report import build_report, write_report

BUILD = Path("build/methods")
MODULE = "bench.methods"
NETWORKS = ("resnet20", "resnet8")


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
    context = comparison["context"]
    return {
        "rows": [to_json(row) for row in findings.rows],
        "work_per_image": [_without_pictures(one) for one in findings.efforts],
        "counted_images": findings.counted_images,
        "timed_images": comparison["images"],
        "rounds": comparison["rounds"],
        "context": {**context, "cpu": machine_name(context)},
        "warnings": findings.warnings,
        "missing": missing,
    }


def _without_pictures(effort: Effort) -> dict[str, Any]:
    dropped = ("cheapest", "dearest")
    return {key: value for key, value in effort.to_json().items() if key not in dropped}


def _check(options: Namespace) -> Sequence[str]:
    names: Sequence[str] = options.networks or NETWORKS
    if not options.measure:  # where looking for checkpoints would import torch
        for name in names:
            find_checkpoints(name)
    return names


BENCHMARK = Benchmark(
    MODULE,
    __doc__,
    check=_check,
    is_prepared=lambda name: (BUILD / name / PLAN).is_file(),
    prepare=lambda name, say: prepare(name, BUILD / name, say),
    measure=lambda names, options: run(names, options.rounds, options.json),
    options=[("--json", {"action": "store_true", "help": "print the results as JSON"})],
)
say, main = BENCHMARK.say, BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
