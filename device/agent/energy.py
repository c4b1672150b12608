"""Energy of an inference, by the method of MLPerf Tiny; README.md in this folder has it.

Never measured in the same run as latency, because sampling a sensor costs time.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Protocol

from .absent import NotMeasured
from .errors import SensorError
from .recording import Recording, integrate, record, thin
from .runner import Burst
from .sensors.base import Sensor
from .settings import Plan
from .system import System

_FEWEST_INFERENCES = 10
_TRIES = 3
_MOST_GAP_SHARE = 0.1
_FEWEST_SAMPLES = 10
_LEAST_CPU_SHARE = 0.9
_MOST_POLLING_SHARE = 0.05
_BY_THE_RULES = Plan()
_NOISE = 0.02  # of a power sensor, from one ten seconds to the next


@dataclass(frozen=True)
class Stretch:
    """A part of the trace, in seconds from its start."""

    start_s: float
    end_s: float
    average_power_mw: float
    rails_mw: dict[str, float]
    samples: int
    gaps: int
    gap_s: float


@dataclass(frozen=True)
class Window(Stretch):
    """One input inferred back to back."""

    sample: int
    inferences: int
    latency_ms: float
    energy_mj: float
    energy_per_inference_mj: float
    net_energy_per_inference_mj: float
    """Above the idle board; the others are gross."""
    energy_delay_mj_ms: float
    cpu_share: float
    """Of the time, how much the network had a CPU for; the rest was other programs'."""


@dataclass(frozen=True)
class Energy:
    """The result: medians over the windows, and what they rest on."""

    sensor: str
    kind: str
    scope: str
    total: list[str]
    channels: dict[str, str]
    rate_hz: float
    polling_share: float
    """Share of the time spent reading the sensor: it is in gross and idle energy, not in net."""
    idle: Stretch
    windows: list[Window]
    average_power_mw: float
    energy_per_inference_mj: float
    net_energy_per_inference_mj: float
    latency_ms: float
    energy_delay_mj_ms: float
    oddities: dict[str, int]
    trace: list[tuple[float, float]]
    """Seconds and milliwatts; evenly thinned where there are thousands."""
    invalid_because: list[str]
    warnings: list[str]

    def __str__(self) -> str:
        return (
            f"{self.energy_per_inference_mj:.4g} mJ an inference, "
            f"{self.net_energy_per_inference_mj:.4g} mJ above idle; "
            f"{self.average_power_mw:.0f} mW ({self.sensor}: {self.scope})"
        )


class Loads(Protocol):
    """What draws the energy: :class:`headgate.device.agent.runner.NetworkLoad`, or a network in
    firmware."""

    def inference_s(self, sample: int) -> float: ...

    def burst(
        self, sample: int, inferences: int, during: Callable[[Callable[[float], bool]], None]
    ) -> Burst: ...


def measure_energy(
    load: Loads, samples: int, sensor: Sensor, system: System, plan: Plan = _BY_THE_RULES
) -> Energy:
    """Measure the idle board, then the windows."""
    recording = Recording(sensor)
    inputs = [index % samples for index in range(plan.windows)]
    calibrated = {sample: load.inference_s(sample) for sample in dict.fromkeys(inputs)}
    sensor.start()
    try:
        idle_start = system.monotonic_ns()
        idle_end = idle_start + round(plan.idle_s * 1e9)
        record(recording, system, _until(system, idle_end))
        bursts = [
            (sample, _long_enough(load, sample, calibrated[sample], plan, recording, system))
            for sample in inputs
        ]
    finally:
        sensor.stop()
    return energy_of(recording, (idle_start, idle_end), bursts, samples, plan)


def energy_of(
    recording: Recording,
    idle_ns: tuple[int, int],
    bursts: list[tuple[int, Burst]],
    samples: int,
    plan: Plan,
) -> Energy:
    """What a recording says of the idle board and of the bursts, each of one of ``samples``."""
    sensor = recording.sensor
    if len(recording.total.times_ns) < 2:
        reason = recording.last_failure or "it sent nothing"
        raise SensorError(f"{sensor.name} gave no samples: {reason}")
    times_ns = recording.total.times_ns
    recorded_ns = times_ns[-1] - times_ns[0]
    polling_share = recording.busy_ns / recorded_ns
    idle_start, idle_end = idle_ns
    idle = _stretch(recording, idle_start, idle_end, idle_start)
    windows = [_window(recording, sample, burst, idle, idle_start) for sample, burst in bursts]

    def median(name: str) -> float:
        return statistics.median(getattr(window, name) for window in windows)

    return Energy(
        sensor=sensor.name,
        kind=sensor.kind,
        scope=sensor.scope,
        total=[] if isinstance(sensor.total, NotMeasured) else sensor.total,
        channels={channel.name: channel.source for channel in sensor.channels},
        rate_hz=(len(times_ns) - 1) / (recorded_ns / 1e9),
        polling_share=polling_share,
        idle=idle,
        windows=windows,
        average_power_mw=median("average_power_mw"),
        energy_per_inference_mj=median("energy_per_inference_mj"),
        net_energy_per_inference_mj=median("net_energy_per_inference_mj"),
        latency_ms=median("latency_ms"),
        energy_delay_mj_ms=median("energy_delay_mj_ms"),
        oddities=recording.oddities(),
        trace=[
            (round((time - idle_start) / 1e9, 4), round(power, 3))
            for time, power in thin(recording.total.power_mw())
        ],
        invalid_because=_invalid_because(recording, idle, windows),
        warnings=_warnings(sensor, plan, samples, recording, polling_share),
    )


def _until(system: System, end_ns: int) -> Callable[[float], bool]:
    def wait(seconds: float) -> bool:
        left_s = (end_ns - system.monotonic_ns()) / 1e9
        system.sleep(max(0.0, min(seconds, left_s)))
        return system.monotonic_ns() >= end_ns

    return wait


def _long_enough(
    load: Loads,
    sample: int,
    inference_s: float,
    plan: Plan,
    recording: Recording,
    system: System,
) -> Burst:
    """A burst of at least the window's length; its samples are in the recording."""
    margin = 1.02
    for _ in range(_TRIES):
        inferences = max(_FEWEST_INFERENCES, ceil(plan.window_s * margin / max(inference_s, 1e-9)))
        # Without this sample the window's first moments would belong to a gap.
        recording.poll(system.monotonic_ns())
        burst = load.burst(
            sample,
            inferences,
            # Two more periods, for sensors that send late.
            lambda wait: record(recording, system, wait, settle_s=2 / recording.sensor.rate_hz),
        )
        if burst.inference_s >= plan.window_s:
            return burst
        # A clock that rose under load, most likely.
        inference_s, margin = burst.inference_s / burst.inferences, margin + 0.05
    raise SensorError(
        f"the window of input {sample} was {burst.inference_s:.2f} s, not {plan.window_s:g}, "
        f"{_TRIES} times: the clock is not steady; set the governor 'performance'"
    )


def _stretch(recording: Recording, start_ns: int, end_ns: int, origin_ns: int) -> Stretch:
    integral = integrate(recording.total, start_ns, end_ns)
    assert integral is not None  # there are two samples
    return Stretch(
        start_s=(start_ns - origin_ns) / 1e9,
        end_s=(end_ns - origin_ns) / 1e9,
        average_power_mw=integral.energy_mj / ((end_ns - start_ns) / 1e9),
        rails_mw=recording.rails_mw(start_ns, end_ns),
        samples=integral.samples,
        gaps=integral.gaps,
        gap_s=integral.gap_s,
    )


def _window(
    recording: Recording, sample: int, burst: Burst, idle: Stretch, origin_ns: int
) -> Window:
    span = _stretch(recording, burst.start_ns, burst.end_ns, origin_ns)
    latency_s = burst.inference_s / burst.inferences
    gross_mj = span.average_power_mw * latency_s
    return Window(
        **vars(span),
        sample=sample,
        inferences=burst.inferences,
        latency_ms=latency_s * 1000,
        energy_mj=span.average_power_mw * (burst.end_ns - burst.start_ns) / 1e9,
        energy_per_inference_mj=gross_mj,
        net_energy_per_inference_mj=gross_mj - idle.average_power_mw * latency_s,
        energy_delay_mj_ms=gross_mj * latency_s * 1000,
        cpu_share=burst.cpu_share,
    )


def _invalid_because(recording: Recording, idle: Stretch, windows: list[Window]) -> list[str]:
    reasons = []
    numbered = {f"window {number}": window for number, window in enumerate(windows, 1)}
    for name, span in [("idle", idle), *numbered.items()]:
        length_s = span.end_s - span.start_s
        if span.samples < _FEWEST_SAMPLES:
            reasons.append(f"{name}: {span.samples} samples only, {_FEWEST_SAMPLES} are needed")
        if span.gap_s > _MOST_GAP_SHARE * length_s:
            reasons.append(
                f"{name}: {span.gap_s:.1f} of {length_s:.1f} s without samples"
                + (f" ({recording.last_failure})" if recording.last_failure else "")
            )
    for name, window in numbered.items():
        if window.cpu_share < _LEAST_CPU_SHARE:
            reasons.append(
                f"{name}: the network had the CPU for {window.cpu_share:.0%} of the time; "
                "the window includes other programs' energy"
            )
        if window.average_power_mw <= 0:
            reasons.append(
                f"{name}: the sensor read {window.average_power_mw:g} mW at work; is the "
                "board's supply wired through it?"
            )
    if any(window.average_power_mw < (1 - _NOISE) * idle.average_power_mw for window in windows):
        reasons.append("the board drew less at work than idle: something else was running before")
    return reasons


def _warnings(
    sensor: Sensor, plan: Plan, samples: int, recording: Recording, polling_share: float
) -> list[str]:
    found = list(sensor.warnings)
    if plan.window_s < Plan.window_s or plan.windows < Plan.windows:
        found.append(
            f"{plan.windows} windows of {plan.window_s:g} s; MLPerf Tiny asks for {Plan.windows} "
            f"of {Plan.window_s:g} s"
        )
    if samples < plan.windows:
        found.append(f"the bundle has {samples} inputs for {plan.windows} windows; some are reused")
    if polling_share > _MOST_POLLING_SHARE:
        found.append(
            f"reading the sensor kept a CPU busy or waiting for {polling_share:.0%} of the time; "
            "gross energy has that in it, net energy has not"
        )
    odd = recording.oddities()
    for name in ("clock_jumps", "backward_times", "resets"):
        if odd.get(name):
            found.append(f"{odd[name]} {name.replace('_', ' ')} of the sensor")
    if recording.failed_reads:
        found.append(f"{recording.failed_reads} readings failed: {recording.last_failure}")
    return found
