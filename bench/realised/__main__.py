"""``python -m bench.realised``: how much of the saved arithmetic the clock sees.

Results of each network are written as soon as it is measured, so that an interrupted
run goes on with the names of those that are left. Leaves ``realised.json`` and ``realised.md`` in
profiling/results/, and the table in README.md between its markers.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.command import Benchmark, known
from bench.methods.measure import file_sizes, make_rows, timing_warnings
from bench.methods.networks import HEADGATE, PLAN, read_plan
from bench.publish import publish, with_earlier
from bench.realised import table
from bench.realised.cases import CASES, Case, prepare
from headgate.device.agent.absent import NotMeasured, to_json
from headgate.profiling.compare import compare
from headgate.profiling.effort import measure_effort
from headgate.profiling.source import open_source

BUILD = Path("build/realised")


def run(case: Case, rounds: int | None) -> None:
    """Measure one network that was prepared, and write the results of all measured so far."""
    measured = _measure(case, rounds or case.rounds)
    networks = with_earlier("realised", {case.network: measured}, list(_BY_NAME))
    results = {"schema": 1, "networks": networks}
    text = table.render(results)
    publish("realised", results, text)
    for warning in measured["warnings"]:
        say(f"warning: {warning}")
    print(text)


def measure(names: Sequence[str], rounds: int | None) -> None:
    """Measure one network after the other."""
    for name in names:
        run(_BY_NAME[name], rounds)


def _measure(case: Case, rounds: int) -> dict[str, Any]:
    folder = BUILD / case.network
    entries, missing = read_plan(folder)
    images = np.load(folder / "images.npy")
    say(f"timing {case.network}: {', '.join(one.name for one in entries)}")
    comparison = compare(
        [folder / one.file for one in entries],
        names=[one.name for one in entries],
        images=images,
        rounds=rounds,
    )
    efforts = {
        one.name: measure_effort(one.name, open_source(folder / one.file).program, images)
        for one in entries
        if one.program == HEADGATE
    }
    unknown = dict.fromkeys((one.name for one in entries), NotMeasured("the weights are random"))
    sizes = file_sizes(entries, folder)
    rows = make_rows(case.network, entries, comparison, efforts, unknown, sizes)
    return {
        "rows": [to_json(row) for row in rows],
        "timed_images": len(images),
        "rounds": comparison.rounds,
        "context": to_json(comparison.context),
        "warnings": timing_warnings(comparison),
        "missing": missing,
    }


_BY_NAME = {case.network: case for case in CASES}

BENCHMARK = Benchmark(
    "bench.realised",
    __doc__,
    check=lambda options: known(options.networks, list(_BY_NAME)),
    is_prepared=lambda name: (BUILD / name / PLAN).is_file(),
    prepare=lambda name, say: prepare(_BY_NAME[name], BUILD / name, say),
    measure=lambda names, options: measure(names, options.rounds),
)
say, main = BENCHMARK.say, BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
