"""How programs are timed in this process: in bursts, one after the other, on one CPU."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headgate.device.agent import context as agent
from headgate.device.agent import cpus as agent_cpus
from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.context import Context, context_warnings, invalid_reasons
from headgate.device.agent.system import System

BURST_WARMUP = 1  # so that what ran before leaves no trace in the numbers
BURST_RUNS = 3


class Timed(Protocol):
    """Anything with a clock around its inference: ``time`` has microseconds, one for each run."""

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]: ...

    def time(self, array: NDArray[np.float32], repeat: int, warmup: int) -> NDArray[np.float64]: ...


def time_burst(program: Timed, image: NDArray[np.float32], runs: int) -> NDArray[np.float64]:
    """Latencies in microseconds of one image (1,C,H,W), after a warm-up."""
    latencies = program.time(image, repeat=runs, warmup=BURST_WARMUP)
    return np.asarray(latencies, dtype=np.float64).ravel()


def time_in_turn(
    programs: Sequence[Timed], images: NDArray[np.float32], rounds: int | None, budget_s: float
) -> list[list[list[float]]]:
    """Latencies in microseconds: of each program by rounds, in each a burst for every image.

    Every round starts with another program. As many as fit ``budget_s`` for each if None.
    """
    singles = [images[index : index + 1] for index in range(len(images))]
    if rounds is None:
        slowest_us = max(float(time_burst(one, singles[0], 1)[0]) for one in programs)
        rounds = fitting_rounds(slowest_us, BURST_RUNS * len(images), budget_s)
    times: list[list[list[float]]] = [[] for _ in programs]
    for turn in range(rounds):
        for step in range(len(programs)):
            index = (turn + step) % len(programs)
            bursts = [time_burst(programs[index], image, BURST_RUNS) for image in singles]
            times[index].append(np.concatenate(bursts).tolist())
    return times


def fitting_rounds(latency_us: float, runs_per_round: int, budget_s: float) -> int:
    """Rounds that fit the time budget, at least 5 and at most 200."""
    round_s = max(latency_us, 1.0) * 1e-6 * (runs_per_round + BURST_WARMUP)
    return int(min(200, max(5, budget_s / round_s)))


def read_context(packages: Iterable[str] = ()) -> Context:
    """This machine now, with the versions of headgate, NumPy and ``packages``."""
    versions = {}
    for package in ("headgate", "numpy", *packages):
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return dataclasses.replace(agent.read_context(System()), versions=versions)


def warnings_between(before: Context, after: Context) -> list[str]:
    """What makes the figures of runs between the two less certain, or spoils them."""
    spoilt = invalid_reasons(before, after, NotMeasured("nobody watched"))
    return [*spoilt, *context_warnings(before, after)]


@contextmanager
def pinned() -> Iterator[list[int]]:
    """Keep this process on one CPU, which is yielded; on none where the system cannot do that."""
    cpus = agent_cpus.choose_cpus(1)
    with agent_cpus.pinned(cpus):
        yield sorted(cpus)
