"""What can be timed, and how one burst of runs is taken.

Every contestant, ours or a peer, answers ``time(array, repeat, warmup)`` with one latency in
microseconds per run. A burst discards its own first runs, so that what ran before it on the CPU
leaves no trace in the numbers.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

BURST_WARMUP = 1
BURST_RUNS = 3


class Timed(Protocol):
    """Anything with a clock around its inference."""

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]: ...

    def time(self, array: NDArray[np.float32], repeat: int, warmup: int) -> NDArray[np.float64]: ...


def time_burst(program: Timed, image: NDArray[np.float32], runs: int) -> NDArray[np.float64]:
    """Latencies in microseconds of ``runs`` inferences of one image (1,C,H,W), after a warm-up."""
    latencies = program.time(image, repeat=runs, warmup=BURST_WARMUP)
    return np.asarray(latencies, dtype=np.float64).ravel()


def fitting_rounds(latency_us: float, runs_per_round: int, budget_s: float) -> int:
    """Rounds that fit the time budget, at least 5 and at most 200."""
    round_s = max(latency_us, 1.0) * 1e-6 * (runs_per_round + BURST_WARMUP)
    return int(min(200, max(5, budget_s / round_s)))
