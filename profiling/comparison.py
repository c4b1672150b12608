"""What a comparison found out: one standing per contestant, and the convention behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headgate.device.agent.absent import NotMeasured, to_json
from headgate.device.agent.context import Context
from headgate.device.agent.percentiles import Summary
from headgate.profiling.statistics import Ratio

CONVENTION = (
    "Contestants run in turn, one thread, one CPU, warm-up discarded. Speed-up = baseline's time / "
    "contestant's time, per round; median over the rounds with its 95 % interval between "
    "order statistics."
)


@dataclass(frozen=True)
class Standing:
    """How one contestant did."""

    name: str
    kind: str
    sha256: str
    latency_us: Summary
    latencies_us: list[float]
    """In the order taken, thinned where there are thousands."""
    speedup: Ratio
    """Against the baseline."""
    dense_macs: int | NotMeasured
    executed_macs: float | NotMeasured
    """Executed, mean over the images."""
    arithmetic_speedup: float | NotMeasured
    """Baseline's dense MACs / executed MACs: what the clock could have given."""
    macs_saved: float | NotMeasured
    time_saved: float
    realised: Ratio | NotMeasured
    top1_agreement: float
    """Share of the images where the largest output is the baseline's."""
    accuracy: float | NotMeasured
    """Of the network on its whole test set, as recorded by its training."""
    accuracy_on_images: float | NotMeasured
    """On the images of this run."""


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` found out. ``to_json()`` gives plain data."""

    machine: str
    baseline: str
    images: int
    rounds: int
    runs_per_round: int
    cpus: list[int]
    """Where it ran; none where the system pins no process."""
    standings: list[Standing]
    context: Context
    convention: str
    mac_convention: str
    warnings: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain data; a value that is missing is ``{"not_measured": reason}``."""
        return dict(to_json(self))

    def __getitem__(self, name: str) -> Standing:
        for standing in self.standings:
            if standing.name == name:
                return standing
        raise KeyError(name)
