"""``python -m bench.threads``: one thread against several, on this machine.

Networks of random weights, dense and gated, because time does not depend on what the weights are.
Both programs
of a network run in turn, so that a machine that changes slows both. Results of each network are
written as soon as it is measured. Leaves ``threads.json`` and ``threads.md`` in profiling/results/,
and the table in README.md between its markers.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import markdown
from bench.command import Benchmark, known
from bench.publish import publish, with_earlier
from headgate.device import load
from headgate.device.agent.absent import to_json
from headgate.device.agent.cpus import choose_cpus, pinned
from headgate.device.agent.errors import AgentError
from headgate.device.agent.percentiles import summarize
from headgate.device.files import storage_error
from headgate.device.program import Program
from headgate.errors import DeviceError, UsageError
from headgate.profiling import units
from headgate.profiling.source import open_source
from headgate.profiling.statistics import ratio_of_rounds
from headgate.profiling.timing import fitting_rounds, read_context, time_burst, warnings_between

BUILD = Path("build/threads")
NETWORKS = ("resnet8", "vgg16", "resnet18")
DENSITY = 0.5
IMAGES = 2
BURST_RUNS = 3
BUDGET_S = 15.0
TOPOLOGY = Path("/sys/devices/system/cpu")
HEADER = ("network", "MACs", "1 thread, ms", "threads", "ms", "faster", "95 % interval")


def prepare(network: str, say: Callable[[str], None]) -> None:
    """Compile a network for this machine, dense and with FBS gates.

    Raises:
        HeadgateError: As compiling does.
        StorageError: A file cannot be written.
    """
    import torch

    from bench.settle import random_images, settle
    from headgate.compile import compile_module
    from headgate.train.gates import gate
    from headgate.train.models import create_model, input_shape

    try:
        BUILD.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error("create", BUILD, error) from error
    torch.manual_seed(0)
    seen = random_images(8, input_shape(network))
    dense = settle(create_model(network), seen)
    gated = settle(gate(dense, density=DENSITY), seen)
    for path, module in zip(_paths(network), (dense, gated), strict=True):
        say(f"compiling {path.stem}")
        compile_module(module, (seen[:1],), name=path.stem, vectors=seen[:IMAGES].numpy()).save(
            path
        )


def run(network: str, threads: int, cpus: frozenset[int], rounds: int | None) -> None:
    """Measure a network that was compiled, and write the results of all measured so far."""
    before = read_context()
    with pinned(cpus):
        say(f"timing {network} on 1 and {threads} threads")
        rows = [measure(path, threads, rounds) for path in _paths(network)]
    warnings = warnings_between(before, read_context()) + siblings(cpus)
    warnings += [
        f"{row['name']}: times on {count} drifted while measuring; ratios of rounds still hold"
        for row in rows
        for key, count in (("alone_us", "1 thread"), ("shared_us", f"{threads} threads"))
        if row[key]["drifted"]
    ]
    measured = {"rows": rows, "context": to_json(before), "warnings": warnings}
    results = {"schema": 1, "networks": with_earlier("threads", {network: measured}, NETWORKS)}
    text = render(results)
    publish("threads", results, text)
    for warning in warnings:
        say(f"warning: {warning}")
    print(text)


def measure(path: Path, threads: int, rounds: int | None) -> dict[str, Any]:
    """One bundle on one thread and on several: a line of the table.

    Raises:
        DeviceError: They do not compute the same.
        BundleError: The bundle is damaged.
    """
    source = open_source(path)
    with source.program as alone, load(path, threads=threads) as shared:
        row = compare_in_turn(alone, shared, source.vectors(), rounds)
    return {"name": source.name, "sha256": source.sha256, "threads": threads, **row}


def compare_in_turn(
    alone: Program, shared: Program, images: NDArray[np.float32], rounds: int | None = None
) -> dict[str, Any]:
    """Time two programs of one bundle in turn, on (N,C,H,W) images.

    Returns:
        ``macs`` done per image, ``rounds``, summaries ``alone_us`` and ``shared_us``, and
        ``faster``: how many times, the median over rounds with its 95 % interval.

    Raises:
        DeviceError: Their outputs are not the same bits, or not the same channels were computed.
    """
    same = np.array_equal(alone.run(images), shared.run(images))
    if not (same and np.array_equal(alone.executed_macs(), shared.executed_macs())):
        raise DeviceError(
            f"{alone.name} computes something else on {shared.threads} threads than on one: this "
            "is a bug of headgate, and its time means nothing"
        )
    rounds = rounds or _rounds(alone, images)
    times: dict[Program, list[NDArray[np.float64]]] = {alone: [], shared: []}
    for turn in range(rounds):
        # Who goes first alternates: drift within a round cancels.
        for program in (shared, alone) if turn % 2 else (alone, shared):
            bursts = [time_burst(program, image[None], BURST_RUNS) for image in images]
            times[program].append(np.concatenate(bursts))
    medians = {one: np.array([np.median(burst) for burst in times[one]]) for one in times}
    faster = medians[alone] / medians[shared]
    return {
        "macs": float(alone.executed_macs().mean()),
        "rounds": rounds,
        "alone_us": to_json(summarize([burst.tolist() for burst in times[alone]])),
        "shared_us": to_json(summarize([burst.tolist() for burst in times[shared]])),
        "faster": to_json(ratio_of_rounds(faster)),
    }


def siblings(cpus: frozenset[int], topology: Path = TOPOLOGY) -> list[str]:
    """A warning for CPUs that share a core: a second thread there has no arithmetic of its own."""
    cores: dict[str, list[int]] = {}
    for cpu in sorted(cpus):
        try:
            listed = (topology / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip()
        except OSError:
            continue
        cores.setdefault(listed, []).append(cpu)
    return [
        f"CPUs {' and '.join(map(str, one))} are threads of one core, which they share"
        for one in cores.values()
        if len(one) > 1
    ]


def render(results: Mapping[str, Any]) -> str:
    """Markdown: one table over all networks, and the machine."""
    networks = results["networks"].values()
    rows = [
        [
            row["name"],
            units.macs(row["macs"]),
            units.three_digits(markdown.median(row["alone_us"]) / 1000),
            str(row["threads"]),
            units.three_digits(markdown.median(row["shared_us"]) / 1000),
            f"**{units.times(row['faster']['median'])}**",
            f"{row['faster']['low']:.2f} to {row['faster']['high']:.2f}",
        ]
        for network in networks
        for row in network["rows"]
    ]
    warnings = sorted({one for network in networks for one in network["warnings"]})
    notes = [
        "Random weights, fp32, batch 1; one thread and several in turn, to the same bits. Faster "
        "is the median over rounds of one's time over the other's.",
        markdown.circumstances([network["context"] for network in networks]),
        *(f"Warning: {one}." for one in warnings),
    ]
    return f"{markdown.table(HEADER, rows)}\n\n{' '.join(notes)}\n"


def _paths(network: str) -> tuple[Path, Path]:
    return BUILD / f"{network}.hgb", BUILD / f"{network}-fbs-{DENSITY}.hgb"


def _rounds(program: Program, images: NDArray[np.float32]) -> int:
    guess = float(time_burst(program, images[:1], 1)[0])
    return fitting_rounds(guess, 2 * BURST_RUNS * len(images), BUDGET_S)


def _cpus(threads: int) -> frozenset[int]:
    if threads < 2:
        raise UsageError(f"--threads {threads}: at least 2, to hold against one")
    try:
        return choose_cpus(threads)
    except AgentError as error:
        raise UsageError(str(error)) from error


def _check(options: Namespace) -> list[str]:
    _cpus(options.threads)
    return known(options.networks, NETWORKS)


def _measure(networks: Sequence[str], options: Namespace) -> None:
    for network in networks:
        run(network, options.threads, _cpus(options.threads), options.rounds)


BENCHMARK = Benchmark(
    "bench.threads",
    __doc__,
    check=_check,
    is_prepared=lambda network: all(path.is_file() for path in _paths(network)),
    prepare=prepare,
    measure=_measure,
    options=[("--threads", {"type": int, "default": 2, "help": "against one; 2 by default"})],
)
say, main = BENCHMARK.say, BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
