"""`make bench`: every figure of the README's tables, made here.

Leaves ``bench.json`` and
``bench.md`` in profiling/results/ and the same table in README.md between its markers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.command import Benchmark, known
from bench.publish import publish, with_earlier, without_runs
from bench.speed import table
from bench.speed.networks import DENSITY, ENTRIES, Entry, prepare
from headgate.device.agent.absent import NotMeasured, to_json
from headgate.device.bundle import Bundle
from headgate.errors import HeadgateError
from headgate.profiling.compare import compare
from headgate.profiling.instructions import count_instructions
from headgate.profiling.profile import profile
from headgate.profiling.report import build_report, write_report

BUILD = Path("build/bench")
COMMANDS = ("make bench",)
_BY_NAME = {entry.network: entry for entry in ENTRIES}


def measure(names: Sequence[str], rounds: int | None) -> None:
    """Time and count what was prepared, and write the results."""
    networks = {name: _measure(_BY_NAME[name], rounds) for name in names}
    results = {
        "schema": 1,
        "density": DENSITY,
        "networks": with_earlier("bench", networks, list(_BY_NAME)),
    }
    text = table.render(results)
    publish("bench", results, text)
    print(text)


def _measure(entry: Entry, rounds: int | None) -> dict[str, Any]:
    folder = BUILD / entry.network
    plan = json.loads((folder / "plan.json").read_text())
    images = np.load(folder / "images.npy")
    files = {**plan["bundles"], **plan["peers"]}
    _say(f"timing {entry.network}: {', '.join(files)}")
    comparison = compare(
        [folder / file for file in files.values()],
        names=list(files),
        images=images,
        accuracies=plan["accuracies"],
        rounds=rounds or entry.rounds,
    )
    counts = {}
    for name, file in plan["counted"].items():
        _say(f"counting instructions of {name} on {entry.counted_on}")
        counts[name] = _count(folder / file, images[:1], f"qemu:{entry.counted_on}")
    bundles = [Bundle.open(folder / file) for file in plan["bundles"].values()]
    profiles = [profile(bundle, images=images) for bundle in bundles]
    report = build_report(
        f"{entry.network}: dense, FBS at {DENSITY}, and peers",
        comparison=comparison,
        profiles=profiles,
        instructions={
            name: count for name, count in counts.items() if not isinstance(count, NotMeasured)
        },
        reproduce=COMMANDS,
    )
    write_report(folder / "report.html", report)
    for warning in comparison.warnings:
        _say(f"warning: {warning}")
    return {
        "comparison": without_runs(comparison.to_json()),
        "instructions": to_json(counts),
        "missing_peers": plan["missing"],
    }


def _count(bundle: Path, image: np.ndarray, machine: str) -> Any:
    try:
        return count_instructions(bundle, image, machine=machine)
    except HeadgateError as error:
        return NotMeasured(str(error))


BENCHMARK = Benchmark(
    "bench.speed",
    __doc__,
    check=lambda options: known(options.networks, list(_BY_NAME)),
    is_prepared=lambda name: (BUILD / name / "plan.json").is_file(),
    prepare=lambda name, say: prepare(_BY_NAME[name], BUILD / name, say),
    measure=lambda names, options: measure(names, options.rounds),
)
_say, main = BENCHMARK.say, BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
