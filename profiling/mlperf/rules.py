"""What MLPerf Tiny asks of a measurement, by its rules v1.2 and the runners that check them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headgate.device.agent.settings import Plan

FEWEST_INFERENCES = 10
BY_THE_RULES = Plan()
"""Five windows of 10 s, one input each; the idle time is the agent's own."""
NOTE = (
    "Measured in the way of MLPerf Tiny's rules v1.2; not a submission, and not verified by "
    "MLCommons."
)


@dataclass(frozen=True)
class Task:
    """A benchmark's quality target: ``top1`` or ``auc`` of its accuracy data set."""

    name: str
    metric: str
    target: float


TASKS = {
    "kws": Task("keyword spotting", "top1", 0.90),
    "vww": Task("visual wake words", "top1", 0.80),
    "ic": Task("image classification", "top1", 0.85),
    "ad": Task("anomaly detection", "auc", 0.85),
}


def broken_rules(seconds: Sequence[float], inferences: Sequence[int]) -> list[str]:
    """Why windows so long, with so many inferences each, do not count."""
    found = []
    if len(seconds) < BY_THE_RULES.windows:
        found.append(f"{len(seconds)} windows; the rules ask for {BY_THE_RULES.windows}")
    for number, (one, count) in enumerate(zip(seconds, inferences, strict=True), 1):
        if one < BY_THE_RULES.window_s:
            found.append(
                f"window {number} took {one:.2f} s; the rules ask for {BY_THE_RULES.window_s:g} s"
            )
        if count < FEWEST_INFERENCES:
            found.append(
                f"window {number} has {count} inferences; the rules ask for {FEWEST_INFERENCES}"
            )
    return found
