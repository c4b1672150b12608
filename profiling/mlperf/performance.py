"""Performance: inferences a second, the median over windows of 10 s, by the board's own clock."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from headgate.device.agent.settings import Plan
from headgate.device.bundle import Bundle
from headgate.device.machines.serial_program import SerialProgram
from headgate.profiling.missing import Result
from headgate.profiling.mlperf.rules import BY_THE_RULES, NOTE, broken_rules
from headgate.profiling.mlperf.windows import Window, run_windows


@dataclass(frozen=True)
class Performance(Result):
    """Medians over the windows; why it does not count is in ``invalid_because``."""

    network: str
    machine: str
    board: str
    model_sha256: str
    counter: str
    clock_hz: int
    throughput_per_s: float
    latency_ms: float
    windows: list[Window]
    valid: bool
    invalid_because: list[str]
    warnings: list[str]
    note: str = NOTE


def measure_performance(
    program: SerialProgram,
    inputs: Sequence[np.ndarray],
    plan: Plan = BY_THE_RULES,
    say: Callable[[str], None] = lambda text: None,
) -> Performance:
    """Of the network on a board; arguments and errors as :func:`run_windows`."""
    greeting, windows = run_windows(program, inputs, plan, say=say)
    faults = [fault for one in windows if (fault := one.clock_fault) is not None]
    reasons = [
        *broken_rules([one.seconds for one in windows], [one.inferences for one in windows]),
        *faults[:1],
    ]
    return Performance(
        network=program.name,
        machine=program.machine,
        board=greeting.board,
        model_sha256=program.bundle.manifest["model_sha256"],
        counter=greeting.counter,
        clock_hz=greeting.clock_hz,
        throughput_per_s=statistics.median(1 / one.latency_s for one in windows),
        latency_ms=1e3 * statistics.median(one.latency_s for one in windows),
        windows=windows,
        valid=not reasons,
        invalid_because=reasons,
        warnings=few_inputs(program.bundle, len(inputs[0]), plan),
    )


def few_inputs(bundle: Bundle, samples: int, plan: Plan) -> list[str]:
    if samples >= plan.windows:
        return []
    return [f"{bundle.name!r} has {samples} inputs for {plan.windows} windows; some are reused"]
