"""`make bench`: every figure of the README's tables, made here.

A network is called by its name, in int8 with ``-int8`` behind; ``int8`` and ``float32`` are all of
that type. Leaves ``bench.json`` and ``bench.md`` in profiling/results/ and the same tables in
README.md between its markers, that of int8 first. Results of other machines stay beside those
of this one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.command import Benchmark, known
from bench.publish import earlier, publish, without_runs
from bench.speed import table
from bench.speed.machine import machine_name
from bench.speed.networks import DENSITY, DTYPES, ENTRIES, Entry, named, prepare
from headgate.device.agent.absent import NotMeasured, to_json
from headgate.device.bundle import Bundle
from headgate.errors import HeadgateError
from headgate.profiling.compare import compare
from headgate.profiling.instructions import count_instructions
from headgate.profiling.profile import profile
from headgate.profiling.report import build_report, write_report

BUILD = Path("build/bench")
COMMANDS = ("make bench",)
_BY_NAME = {entry.name: entry for entry in ENTRIES}


def measure(names: Sequence[str], rounds: int | None) -> None:
    """Time and count what was prepared, and write the results."""
    networks = {name: _measure(_BY_NAME[name], rounds) for name in names}
    here = machine_name(next(iter(networks.values()))["comparison"]["context"])
    machines = earlier("bench", "machines")
    found = {**machines.get(here, {}), **networks}
    machines[here] = {name: found[name] for name in _BY_NAME if name in found}
    results = {"schema": 2, "density": DENSITY, "machines": machines}
    pieces = {"int8": table.headline(results), "bench": table.render(results, headline=False)}
    publish("bench", results, table.render(results), pieces=pieces)
    print(table.render({**results, "machines": {here: networks}}))


def _measure(entry: Entry, rounds: int | None) -> dict[str, Any]:
    folder = BUILD / entry.name
    plan = json.loads((folder / "plan.json").read_text())
    images = np.load(folder / "images.npy")
    files = {**plan["bundles"], **plan["peers"]}
    _say(f"timing {entry.name}: {', '.join(files)}")
    comparison = compare(
        [folder / file for file in files.values()],
        names=list(files),
        images=images,
        accuracies=plan["accuracies"],
        rounds=rounds or entry.rounds,
    )
    counts = {}
    for target, counted in plan["counted"].items():
        for name, file in counted.items():
            _say(f"counting instructions of {name} on {target}")
            counts[f"{name} on {target}"] = _count(folder / file, images[:1], f"qemu:{target}")
    bundles = {name: Bundle.open(folder / file) for name, file in plan["bundles"].items()}
    profiles = [profile(bundle, images=images) for bundle in bundles.values()]
    report = build_report(
        f"{entry.name}: dense, FBS at {DENSITY}, and peers",
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
        "dtype": entry.dtype,
        "comparison": without_runs(comparison.to_json()),
        "instructions": to_json(counts),
        "sizes": {
            name: {
                "bundle": (folder / plan["bundles"][name]).stat().st_size,
                "weights": bundle.manifest["weights_bytes"],
                "arena": bundle.manifest["arena_bytes"],
            }
            for name, bundle in bundles.items()
        },
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
    check=lambda options: known(named(options.networks), [*_BY_NAME, *DTYPES]),
    is_prepared=lambda name: (BUILD / name / "plan.json").is_file(),
    prepare=lambda name, say: prepare(_BY_NAME[name], BUILD / name, say),
    measure=lambda names, options: measure(names, options.rounds),
)
_say, main = BENCHMARK.say, BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
