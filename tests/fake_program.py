"""A program whose clock follows a script, so that what is said about times can be checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from headgate.device.program import Execution, Program
from headgate.device.protocol import Request
from tests import fake_bundle

LAYER_SHARES = np.array([0.25, 0.75])


class ScriptedProgram(Program):
    """The fake bundle; run number r of its life takes ``latency_us(r)``."""

    def __init__(
        self,
        latency_us: Callable[[int], float],
        active: int = 2,
        machine: str = "host",
        **manifest: Any,
    ) -> None:
        super().__init__(fake_bundle.bundle({"code/network.so": b"code"}, **manifest), machine)
        self.latency_us = latency_us
        self.active = active
        self.runs = 0
        self.calls: list[int] = []
        """Samples of each call."""

    def _execute(self, inputs: list[np.ndarray], request: Request) -> Execution:
        samples = len(inputs[0])
        self.calls.append(samples)
        times_ns = np.empty((samples, request.repeat), np.uint64)
        for sample in range(samples):
            self.runs += request.warmup
            for run in range(request.repeat):
                times_ns[sample, run] = round(self.latency_us(self.runs) * 1000)
                self.runs += 1
        return Execution(
            outputs=[fake_bundle.expected(inputs[0])],
            counts=np.full((samples, len(self.bundle.manifest["gates"])), self.active, np.int32),
            times_ns=times_ns,
            layer_times_ns=(times_ns[..., None] * LAYER_SHARES).astype(np.uint64),
        )

    def _free(self) -> None:
        """Nothing is held."""
