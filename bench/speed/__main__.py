"""`make bench`: every figure of the README's tables, made here.

Networks are prepared in one process and timed in another that never imports torch, TVM or
TensorFlow, so that nobody's threads or memory disturb the clock. Leaves ``bench.json`` and
``bench.md`` in profiling/results/ and the same table in README.md between its markers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.publish import publish, with_earlier, without_runs
from bench.speed import table
from bench.speed.networks import DENSITY, ENTRIES, Entry, prepare
from headgate.device.agent.absent import NotMeasured, to_json
from headgate.device.bundle import Bundle
from headgate.errors import HeadgateError, UsageError, suggest
from headgate.profiling.compare import compare
from headgate.profiling.instructions import count_instructions
from headgate.profiling.profile import profile
from headgate.profiling.report import build_report, write_report

BUILD = Path("build/bench")
COMMANDS = ("make bench",)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench.speed", description=__doc__)
    parser.add_argument("networks", nargs="*", help="which; all by default")
    parser.add_argument("--reuse", action="store_true", help="keep what build/bench/ already has")
    parser.add_argument("--rounds", type=int, help="timed rounds, instead of each network's own")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        entries = _entries(options.networks)
        if options.measure:
            measure(entries, options.rounds)
            return 0
        for entry in entries:
            folder = BUILD / entry.network
            if not (options.reuse and (folder / "plan.json").is_file()):
                prepare(entry, folder, _say)
        command = [sys.executable, "-m", "bench.speed", "--measure", *options.networks]
        if options.rounds:
            command += ["--rounds", str(options.rounds)]
        return subprocess.run(command, check=False).returncode
    except HeadgateError as error:
        print(f"bench: {error}", file=sys.stderr)
        return error.exit_code


def measure(entries: Sequence[Entry], rounds: int | None) -> None:
    """Time and count what was prepared, and write the results."""
    networks = {entry.network: _measure(entry, rounds) for entry in entries}
    known = [entry.network for entry in ENTRIES]
    results = {
        "schema": 1,
        "density": DENSITY,
        "networks": with_earlier("bench", networks, known),
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


def _entries(names: Sequence[str]) -> list[Entry]:
    known: Mapping[str, Entry] = {entry.network: entry for entry in ENTRIES}
    for name in names:
        if name not in known:
            raise UsageError(f"no benchmark of {name!r}.{suggest(name, known)}")
    return [known[name] for name in names] if names else list(ENTRIES)


def _say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
