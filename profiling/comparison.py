"""What a comparison found out: one standing per contestant, and the convention behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headgate.profiling.absent import NotMeasured, to_json
from headgate.profiling.context import Context
from headgate.profiling.statistics import Summary

CONVENTION = (
    "Contestants run in turn, one thread, one CPU, warm-up discarded. Speed-up = baseline's time / "
    "contestant's time, per round; median over the rounds with a 95 % bootstrap interval. "
    "MACs saved = 1 - done MACs / baseline's dense MACs. Time saved = 1 - time / baseline's time "
    "= 1 - 1 / speed-up. Realised = time saved / MACs saved."
)


@dataclass(frozen=True)
class Ratio:
    """A median over rounds with its 95 % bootstrap interval."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Standing:
    """How one contestant did."""

    name: str
    kind: str
    sha256: str
    latency_us: Summary
    """Over all runs; ``low`` and ``high`` are the interval of the median over rounds."""
    latencies_us: list[float]
    """In the order taken, thinned where there are thousands."""
    speedup: Ratio
    """Against the baseline."""
    dense_macs: int | NotMeasured
    done_macs: float | NotMeasured
    arithmetic_speedup: float | NotMeasured
    """Baseline's dense MACs / done MACs: what the clock could have given."""
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
