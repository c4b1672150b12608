"""Windows on a board: one input inferred back to back, timed by the board's own clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from headgate.device.agent.settings import Plan
from headgate.device.machines.board_clock import clock_fault
from headgate.device.machines.serial_program import SerialProgram
from headgate.device.program import little_endian
from headgate.device.serial_protocol import Greeting, Session
from headgate.errors import DeviceError
from headgate.profiling.mlperf.rules import FEWEST_INFERENCES

_MARGIN = 1.02
_TRIES = 3


@dataclass(frozen=True)
class Window:
    """One of them: ``seconds`` by the board's clock, ``host_seconds`` by this computer's."""

    sample: int
    inferences: int
    seconds: float
    host_seconds: float

    @property
    def latency_s(self) -> float:
        return self.seconds / self.inferences

    @property
    def clock_fault(self) -> str | None:
        """Why the board's clock is not what its firmware was built for; None if it is."""
        return clock_fault(self.seconds, self.host_seconds)


def run_windows(
    program: SerialProgram,
    inputs: Sequence[np.ndarray],
    plan: Plan,
    *,
    meter: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Greeting, list[Window]]:
    """A window of at least ``plan.window_s`` and ten inferences for each of ``plan.windows``.

    Args:
        inputs: (N, ...) float32 each; samples are taken in turn.
        meter: let the board's pin tell a meter of each window; before the first the line is quiet
            for ``plan.idle_s``.
        say: called with what is being done.

    Raises:
        DeviceError, BundleError: as of :meth:`headgate.device.program.Program.run`, or the board
            is never at work for so long.
    """
    samples = [index % len(inputs[0]) for index in range(plan.windows)]
    found = []
    with program.session() as (session, greeting):
        for number, sample in enumerate(samples, 1):
            say(f"window {number} of {plan.windows}")
            fill(session, inputs, sample)
            calibrated = time_inference(session, greeting, program.run_s)
            if meter and number == 1:
                time.sleep(plan.idle_s)
            found.append(_long_enough(session, greeting, sample, calibrated, plan, meter))
    return greeting, found


def fill(session: Session, inputs: Sequence[np.ndarray], sample: int) -> None:
    """Sends one sample of each input."""
    for index, array in enumerate(inputs):
        session.write(index, little_endian(array[sample]).tobytes())


def time_inference(session: Session, greeting: Greeting, run_s: float) -> float:
    """Seconds of an inference by the board's clock, after one that is discarded."""
    session.run(False, run_s)
    return session.run(False, run_s) / greeting.clock_hz


def _long_enough(
    session: Session,
    greeting: Greeting,
    sample: int,
    inference_s: float,
    plan: Plan,
    meter: bool,
) -> Window:
    if inference_s <= 0:
        raise DeviceError("the board's clock counts nothing; its firmware does not fit it")
    margin = _MARGIN
    for _ in range(_TRIES):
        inferences = max(FEWEST_INFERENCES, ceil(plan.window_s * margin / inference_s))
        window = run_window(session, greeting, sample, inferences, inference_s, meter=meter)
        # A meter has seen this one; another would be one too many in its log.
        if window.seconds >= plan.window_s or meter:
            return window
        inference_s, margin = window.latency_s, margin + 0.05
    raise DeviceError(
        f"a window was {window.seconds:.2f} s, not {plan.window_s:g}, {_TRIES} times: the board's "
        "clock is not steady"
    )


def run_window(
    session: Session,
    greeting: Greeting,
    sample: int,
    inferences: int,
    inference_s: float,
    *,
    meter: bool = False,
) -> Window:
    """So many inferences of what lies in the inputs, each of about ``inference_s``."""
    expected_s = inferences * inference_s
    start = time.monotonic()
    cycles = session.run(
        False,
        10 + 6 * expected_s,
        inferences=inferences,
        window=meter,
        # Another question would be answered behind this one's end, and use energy before it.
        patience_s=1 + 1.5 * expected_s,
    )
    host_s = time.monotonic() - start
    return Window(sample, inferences, cycles / greeting.clock_hz, host_s)
