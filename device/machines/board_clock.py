"""Whether a board's clock is what its firmware was built for; this computer's is the witness."""

from __future__ import annotations

import time
from math import ceil

from headgate.device.serial_protocol import Greeting, Session

TOLERANCE = 0.02
"""How far the two clocks may be apart, as a share."""
_LATE_S = 0.25
"""The line and a busy computer add at the most so much to what this computer's clock sees."""
_LOOK_S = 2.0
_MOST_INFERENCES = 1_000_000
_SLOWEST = 20


def clock_fault(seconds: float, host_seconds: float) -> str | None:
    """Why a board's seconds are not those of the same time here; None if they are."""
    most = host_seconds * (1 + TOLERANCE)
    least = max(0.0, host_seconds - _LATE_S) * (1 - TOLERANCE)
    if least <= seconds <= most:
        return None
    return (
        f"the board counted {seconds:.2f} s, it took {host_seconds:.2f} s: its clock is not what "
        "its firmware was built for, or the line lost an answer"
    )


def look_at_clock(session: Session, greeting: Greeting, run_s: float) -> str | None:
    """The same of some seconds of inferences of what lies in the board's inputs."""
    one_s = session.run(False, run_s) / greeting.clock_hz
    inferences = max(1, min(_MOST_INFERENCES, ceil(_LOOK_S / max(one_s, 1e-9))))
    expected_s = inferences * one_s
    start = time.monotonic()
    cycles = session.run(
        False, run_s + _SLOWEST * expected_s, inferences=inferences, patience_s=1 + 2 * expected_s
    )
    return clock_fault(cycles / greeting.clock_hz, time.monotonic() - start)
