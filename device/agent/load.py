"""A network as the load whose energy is measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from .cpus import cpu_share
from .energy import Burst
from .runner import Network
from .watch import Watch

_CALIBRATION_RUNS = 5


class NetworkLoad:
    """Bursts of inferences of one of the bundle's test vectors, one process each."""

    def __init__(self, network: Network, watch: Watch) -> None:
        self._network = network
        self._watch = watch

    def inference_s(self, sample: int) -> float:
        """Median of a few."""
        done = self._network.run([sample], warmup=1, repeat=_CALIBRATION_RUNS, times=True)
        return statistics.median(done.times_ns[0]) / 1e9

    def burst(
        self, sample: int, inferences: int, during: Callable[[Callable[[float], bool]], None]
    ) -> Burst:
        """Infer so often in a process whose end is awaited by ``during``."""
        running = self._network.start([sample], warmup=1, repeat=inferences, times=True)
        with self._watch.watch() as ended, running:
            during(running.wait)
            done = running.result()
            ended(done.ended_ns)
        total_ns = sum(done.times_ns[0])
        # The process ends right after the last inference, and loading lies before the first.
        inference_s = total_ns / 1e9
        share = cpu_share(done.cpu_s, inference_s, [done.waited_share])
        return Burst(done.ended_ns - total_ns, done.ended_ns, inferences, inference_s, share)
