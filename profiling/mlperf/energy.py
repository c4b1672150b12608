"""Energy: the board marks its windows on a pin, and an external meter's log says what they took.

First the windows are run while the meter logs (:func:`run_energy`), then the log, saved, is read
(:func:`energy_report`): the result is a report of the agent, as of any board.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.energy import Energy, energy_of
from headgate.device.agent.errors import AgentError
from headgate.device.agent.recording import Recording
from headgate.device.agent.report import Report
from headgate.device.agent.runner import Burst
from headgate.device.agent.sensors.base import COUNTER, Channel, Sample, Sensor
from headgate.device.agent.settings import Plan
from headgate.device.agent_report import decode_agent_report
from headgate.device.machines.board_clock import TOLERANCE
from headgate.device.machines.serial_program import SerialProgram
from headgate.device.schema import Mismatch, decode
from headgate.errors import InputError, MissingFile, why
from headgate.profiling.meters.log import MeterLog
from headgate.profiling.missing import Result
from headgate.profiling.mlperf.rules import BY_THE_RULES, NOTE, broken_rules
from headgate.profiling.mlperf.windows import Window, run_windows

_KIND = "mlperf-energy"
_MOST_SAMPLES = 20_000
"""A log with more is read at every second, third ... of its moments; its energy stays."""
_COARSEST = 0.01
"""A meter's samples may be apart by such a share of a window."""
_MARGIN_S = 0.1
"""The idle time ends so much before the first window."""


@dataclass(frozen=True)
class EnergyRun(Result):
    """Windows that a board has run for a meter; ``report`` is on the same run, without energy."""

    kind: str
    windows: list[Window]
    idle_s: float
    report: Report


def run_energy(
    program: SerialProgram,
    inputs: Sequence[np.ndarray],
    report: Report,
    plan: Plan = BY_THE_RULES,
    say: Callable[[str], None] = lambda text: None,
) -> EnergyRun:
    """Runs the windows; arguments and errors as :func:`run_windows`.

    ``report`` is what `profile` says of the network on the board.
    """
    _, windows = run_windows(program, inputs, plan, meter=True, say=say)
    waits = NotMeasured("the meter's log was not read yet")
    report = dataclasses.replace(report, energy=waits, verb="energy")
    return EnergyRun(_KIND, windows, plan.idle_s, report)


def read_energy_run(path: Path) -> EnergyRun:
    """What :func:`run_energy` found, from its JSON.

    Raises:
        MissingFile: there is no such file.
        InputError: it is no such run.
    """
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise MissingFile(f"no run {path}; check the path") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON, or cut off: {why(error)}") from error
    if not isinstance(data, dict) or data.get("kind") != _KIND:
        raise InputError(f"{path} is no run of `headgate mlperf energy BUNDLE -o {path}`")
    decode_agent_report(data.get("report"), f"the report in {path}")
    try:
        return decode(EnergyRun, data)
    except Mismatch as error:
        raise InputError(f"{path}: {error}; run it again") from error


def energy_report(run: EnergyRun, log: MeterLog) -> Report:
    """The run's report with the energy of its windows; what does not count says why.

    An InputError if the log has not all of the windows, or has them at other lengths.
    """
    spans = log.windows_s([one.seconds for one in run.windows])
    for number, (span, window) in enumerate(zip(spans, run.windows, strict=True), 1):
        length_s = span[1] - span[0]
        if abs(length_s - window.seconds) > TOLERANCE * window.seconds:
            raise InputError(
                f"window {number} lasts {length_s:.2f} s in the meter's log and "
                f"{window.seconds:.2f} s by the board's clock: is it another run's log, or is the "
                "clock not what the firmware was built for?"
            )
    energy = _energy(run, log, spans)
    shortest_s = min(end - start for start, end in spans)
    return with_energy(run.report, energy, _coarse(log, shortest_s))


def with_energy(report: Report, energy: Energy, faults: Sequence[str]) -> Report:
    """The report with an energy, judged by the rules; ``faults`` are more reasons against it."""
    lengths_s = [one.end_s - one.start_s for one in energy.windows]
    inferences = [one.inferences for one in energy.windows]
    reasons = [*energy.invalid_because, *broken_rules(lengths_s, inferences), *faults]
    energy = dataclasses.replace(energy, invalid_because=reasons)
    others = [one for one in report.invalid_because if not one.startswith("energy: ")]
    every = [*others, *(f"energy: {one}" for one in reasons)]
    warnings = [f"energy: {one}" for one in (*energy.warnings, NOTE)]
    return dataclasses.replace(
        report,
        energy=energy,
        valid=not every,
        invalid_because=every,
        warnings=[*report.warnings, *warnings],
    )


def _energy(run: EnergyRun, log: MeterLog, spans: Sequence[tuple[float, float]]) -> Energy:
    recording = Recording(_LogSensor.of(log))
    recording.poll(0)
    first = spans[0][0]
    idle_ns = _ns(first - run.idle_s + _MARGIN_S), _ns(first - _MARGIN_S)
    bursts = [
        (window.sample, Burst(_ns(start), _ns(end), window.inferences, end - start))
        for window, (start, end) in zip(run.windows, spans, strict=True)
    ]
    samples = len({window.sample for window in run.windows})
    plan = Plan(window_s=min(end - start for start, end in spans), windows=len(spans))
    try:
        return energy_of(recording, idle_ns, bursts, samples, plan)
    except AgentError as error:
        raise InputError(str(error)) from error


def _coarse(log: MeterLog, window_s: float) -> list[str]:
    if 1 / log.rate_hz <= _COARSEST * window_s:
        return []
    return [
        f"the log has {log.rate_hz:.3g} samples a second, too few for windows of {window_s:.0f} s; "
        "save it at a higher rate"
    ]


@dataclass
class _LogSensor(Sensor):
    """A meter's log as a sensor that says everything at once."""

    samples: list[Sample] = dataclasses.field(default_factory=list)

    @classmethod
    def of(cls, log: MeterLog) -> _LogSensor:
        step = -(-len(log.times_s) // _MOST_SAMPLES)
        moments = zip(log.times_s[::step], log.energy_mj[::step], strict=True)
        return cls(
            name=log.meter,
            kind=COUNTER,
            channels=[Channel("power", "external", log.source)],
            total=["power"],
            scope=f"what the {log.meter} is wired to ({log.source})",
            rate_hz=log.rate_hz,
            warnings=list(log.warnings),
            samples=[Sample(_ns(time_s), {"power": float(mj)}) for time_s, mj in moments],
        )

    def poll(self, now_ns: int) -> list[Sample]:
        return self.samples


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
