"""Energy by a sensor of this computer, such as a Joulescope, that measures the board meanwhile."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from headgate.device.agent.energy import measure_energy
from headgate.device.agent.errors import AgentError
from headgate.device.agent.report import Report
from headgate.device.agent.runner import Burst
from headgate.device.agent.sensors import choose
from headgate.device.agent.sensors.base import Sensor
from headgate.device.agent.settings import Plan
from headgate.device.agent.system import System
from headgate.device.machines.serial_program import SerialProgram
from headgate.device.serial_protocol import Greeting, Session
from headgate.errors import DeviceError, HeadgateError, why
from headgate.profiling.mlperf.energy import with_energy
from headgate.profiling.mlperf.rules import BY_THE_RULES
from headgate.profiling.mlperf.windows import Window, fill, run_window, time_inference


def find_sensor(wanted: str, column: str | None = None) -> Sensor:
    """The agent's sensor that ``--sensor`` names; a DeviceError if there is none."""
    try:
        return choose(System(), wanted, column=column)
    except AgentError as error:
        raise DeviceError(f"energy cannot be measured: {why(error)}") from error


def live_energy(
    program: SerialProgram,
    inputs: Sequence[np.ndarray],
    report: Report,
    sensor: Sensor,
    plan: Plan = BY_THE_RULES,
) -> Report:
    """``report``, what `profile` says of the network on the board, with its energy.

    Raises:
        DeviceError: the sensor or the board fails.
    """
    with program.session() as (session, greeting):
        load = FirmwareLoad(session, greeting, inputs, program.run_s)
        try:
            energy = measure_energy(load, len(inputs[0]), sensor, System(), plan)
        except AgentError as error:
            raise DeviceError(f"energy cannot be measured: {why(error)}") from error
    faults = [fault for one in load.windows if (fault := one.clock_fault) is not None]
    report = dataclasses.replace(report, verb="energy")
    return with_energy(report, energy, faults[:1])


class FirmwareLoad:
    """Bursts of inferences in firmware, as the agent's ``NetworkLoad`` has them in a process."""

    def __init__(
        self, session: Session, greeting: Greeting, inputs: Sequence[np.ndarray], run_s: float
    ) -> None:
        self._session, self._greeting, self._inputs = session, greeting, inputs
        self._run_s = run_s
        self._inference_s: dict[int, float] = {}
        self.windows: list[Window] = []

    def inference_s(self, sample: int) -> float:
        fill(self._session, self._inputs, sample)
        found = time_inference(self._session, self._greeting, self._run_s)
        self._inference_s[sample] = found
        return found

    def burst(
        self, sample: int, inferences: int, during: Callable[[Callable[[float], bool]], None]
    ) -> Burst:
        """Infer so often, while ``during`` is called with a function that waits for the end."""
        fill(self._session, self._inputs, sample)
        self._session.run(False, self._run_s)
        found: list[tuple[Window, int]] = []
        errors: list[HeadgateError] = []
        over = threading.Event()

        def run() -> None:
            try:
                expected_s = self._inference_s[sample]
                window = run_window(self._session, self._greeting, sample, inferences, expected_s)
                found.append((window, time.monotonic_ns()))
            except HeadgateError as error:
                errors.append(error)
            finally:
                over.set()

        thread = threading.Thread(target=run, name="window", daemon=True)
        thread.start()
        during(over.wait)
        thread.join()
        if errors:
            raise errors[0]
        ((window, end_ns),) = found
        self.windows.append(window)
        return Burst(end_ns - round(window.seconds * 1e9), end_ns, inferences, window.seconds)
