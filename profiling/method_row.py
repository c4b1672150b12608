"""One line of the table of methods."""

from __future__ import annotations

from dataclasses import dataclass

from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.percentiles import Summary
from headgate.profiling.statistics import Distribution, Ratio

LEAST_GAP = 0.02  # other images alone make less of a difference


@dataclass(frozen=True)
class Row:
    """A network in a program: what it is worth and what it costs."""

    name: str
    checkpoint: str
    network: str
    """Its architecture."""
    method: str
    """dense, fbs, dcp, cgnet, frs."""
    program: str
    """headgate, or a peer with fp32 behind its name; with int8 behind where it computes in that."""
    accuracy: float | NotMeasured
    """Top-1, 0..1."""
    accuracy_images: int
    accuracy_source: str
    """Where the accuracy was measured: in training, or here with this very program."""
    bundle_accuracy: float | NotMeasured
    """Of this program on the images used here, whatever ``accuracy`` is."""
    dense_macs: int
    """Of the dense network of this architecture."""
    macs: Distribution
    """Executed per image, by the code that runs."""
    counted_macs: int | None
    """Mean as papers count it: of a pixel gate every number that is on, not the whole tiles that a
    kernel computes."""
    fewer: float
    """Dense MACs / mean executed MACs."""
    latency_us: Summary
    speedup: Ratio
    """Against the dense network in headgate."""
    realised: float | NotMeasured
    """Time saved / MACs saved, against the dense network in the same program."""
    weights_bytes: int
    file_bytes: int


def counts_differ(executed: float, counted: float | None) -> bool:
    """Whether a kernel computes more than papers count, by more than other images explain."""
    return counted is not None and abs(executed / counted - 1) >= LEAST_GAP
