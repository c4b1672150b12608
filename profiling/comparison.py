"""Who is compared, against whom, and how each one did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headgate.device.agent import definitions
from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.context import Context
from headgate.device.agent.percentiles import Summary
from headgate.device.program import Program
from headgate.errors import UsageError, suggest
from headgate.profiling.missing import Result
from headgate.profiling.source import Source
from headgate.profiling.statistics import Ratio

CONVENTION = (
    "Contestants run in turn, one thread, one CPU, warm-up discarded. Speed-up = baseline's time / "
    "contestant's time, per round; median over the rounds with its 95 % interval between "
    "order statistics. Realised is against the dense network of the same data type."
)


@dataclass(frozen=True)
class Contestant:
    """One program to compare."""

    name: str
    program: Any
    """A :class:`headgate.profiling.timing.Timed`; on an emulated board it needs no ``time``."""
    kind: str
    """``dense``, ``gated`` or ``peer``."""
    sha256: str
    dense_macs: int | None = None
    """Of peers known only for our ``.tflite`` files."""
    accuracy: float | None = None
    packages: tuple[str, ...] = ()
    dtype: str = "float32"
    """What it computes with; in others than float32 a few images may get another class."""

    @classmethod
    def of_bundle(cls, source: Source, name: str | None = None) -> Contestant:
        """A loaded bundle, called after its file unless named."""
        kind = "gated" if source.manifest["gates"] else "dense"
        macs = definitions.dense_macs(source.manifest["layers"])
        dtype = source.manifest.get("dtype", "float32")
        return cls(name or source.name, source.program, kind, source.sha256, macs, dtype=dtype)

    def scores(self, images: NDArray[np.float32]) -> NDArray[Any]:
        """Outputs (N, classes) of images (N,C,H,W)."""
        run = self.program.scores if isinstance(self.program, Program) else self.program.run
        outputs = np.asarray(run(images))
        return outputs.reshape(len(outputs), -1)


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
    """Mean over the images."""
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
    dtype: str = "float32"


@dataclass(frozen=True)
class Comparison(Result):
    """What :func:`compare` found out."""

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

    def __getitem__(self, name: str) -> Standing:
        return {one.name: one for one in self.standings}[name]


def choose(contestants: Sequence[Contestant], name: str | None) -> Contestant:
    """The baseline called ``name``; the first dense one, or the first, when None.

    Raises:
        UsageError: There is none, or two have the same name.
    """
    if not contestants:
        raise UsageError("nothing to compare: give at least one bundle")
    check_names([one.name for one in contestants])
    if name is None:
        return next((one for one in contestants if one.kind == "dense"), contestants[0])
    by_name = {one.name: one for one in contestants}
    if name not in by_name:
        raise UsageError(f"no contestant is called {name!r}.{suggest(name, by_name)}")
    return by_name[name]


def check_names(names: Sequence[str]) -> None:
    """Raise a UsageError if two are equal."""
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"two contestants are called {twice!r}; give one file another name")


def agreement(
    scores: NDArray[Any], base: NDArray[Any], labels: NDArray[np.integer[Any]] | None
) -> dict[str, Any]:
    """Shares of the images where the largest output is the baseline's, and the true class."""
    top1 = scores.argmax(axis=1)
    missing = NotMeasured("the images came without labels")
    return {
        "top1_agreement": float((top1 == base.argmax(axis=1)).mean()),
        "accuracy_on_images": missing if labels is None else float((top1 == labels).mean()),
    }
