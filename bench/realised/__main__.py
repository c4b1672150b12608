"""``python -m bench.realised``: how much of the saved arithmetic the clock sees.

Networks are prepared in one process and timed in another that never imports torch, TVM or
TensorFlow. Results of each network are written as soon as it is measured, so that an interrupted
run goes on with the names of those that are left. Leaves ``realised.json`` and ``realised.md`` in
profiling/results/, and the table in README.md between its markers.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.methods.measure import file_sizes, make_rows, timing_warnings
from bench.methods.networks import HEADGATE, PLAN, read_plan
from bench.publish import publish, with_earlier
from bench.realised import table
from bench.realised.cases import CASES, Case, prepare
from headgate.device.agent.absent import NotMeasured, to_json
from headgate.errors import HeadgateError, UsageError, suggest
from headgate.profiling.compare import compare
from headgate.profiling.effort import measure_effort
from headgate.profiling.source import open_source

BUILD = Path("build/realised")
MODULE = "bench.realised"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog=MODULE, description=__doc__)
    parser.add_argument("networks", nargs="*", help="which; all by default")
    parser.add_argument("--reuse", action="store_true", help="keep what build/realised/ has")
    parser.add_argument("--prepare", action="store_true", help="compile only, for a later --reuse")
    parser.add_argument("--rounds", type=int, help="timed rounds, instead of each network's own")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        cases = _cases(options.networks)
        if options.measure:
            for case in cases:
                run(case, options.rounds)
            return 0
        for case in cases:
            folder = BUILD / case.network
            if not (options.reuse and (folder / PLAN).is_file()):
                prepare(case, folder, say)
        if options.prepare:
            return 0
        command = [sys.executable, "-m", MODULE, "--measure", *(one.network for one in cases)]
        command += ["--rounds", str(options.rounds)] if options.rounds else []
        return subprocess.run(command, check=False).returncode
    except HeadgateError as error:
        print(f"realised: {error}", file=sys.stderr)
        return error.exit_code


def run(case: Case, rounds: int | None) -> None:
    """Measure one network that was prepared, and write the results of all measured so far."""
    measured = _measure(case, rounds or case.rounds)
    networks = with_earlier("realised", {case.network: measured}, [one.network for one in CASES])
    results = {"schema": 1, "networks": networks}
    text = table.render(results)
    publish("realised", results, text)
    for warning in measured["warnings"]:
        say(f"warning: {warning}")
    print(text)


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


def _cases(names: Sequence[str]) -> list[Case]:
    known = {case.network: case for case in CASES}
    for name in names:
        if name not in known:
            raise UsageError(f"no such case {name!r}.{suggest(name, known)}")
    return [known[name] for name in names] if names else list(CASES)


def say(line: str) -> None:
    """One line of progress, kept apart from the results."""
    print(f"realised: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
