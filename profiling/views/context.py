"""What the page shows of the circumstances: what the runs share, and where they differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headgate.device.agent.absent import NOT_LOOKED, NotMeasured, is_measured
from headgate.device.agent.context import Context, Memory
from headgate.device.agent.frequency import ClockRange
from headgate.device.agent.report import Report
from headgate.profiling.comparison import Comparison
from headgate.profiling.machines import Entry
from headgate.profiling.missing import derive, figure
from headgate.profiling.views.cells import NONE, said


def context_facts(entries: Sequence[Entry]) -> dict[str, Any]:
    """Facts that all runs share as a list, the others as a table with a column for each run."""
    shared, differing = [], []
    of_firmware = all(is_measured(entry.firmware) for entry in entries)
    for label, source in (_OF_FIRMWARE if of_firmware else _OF_REPORT).items():
        facts = [said(_read(entry.report, source)) for entry in entries]
        if len(set(facts)) == 1:
            shared.append((label, *facts[0]))
        else:
            differing.append((label, facts))
    return {"shared": shared, "differing": differing, "runs": [one.label for one in entries]}


def facts_of(comparison: Comparison) -> list[tuple[str, str, bool]]:
    """Facts of the machine that a comparison ran on, before it."""
    context = comparison.context
    facts = {label: _read(context, source) for label, source in _OF_MOMENT.items()}
    facts["Ran on CPUs"] = _numbers(comparison.cpus)
    facts |= dict(sorted(context.versions.items()))
    return [(label, *said(value)) for label, value in facts.items()]


def _read(about: Any, source: str | Callable[[Any], Any]) -> Any:
    return figure(about, source) if isinstance(source, str) else source(about)


def _change(source: str | Callable[[Context], Any]) -> Callable[[Report], Any]:
    """A fact before and after the run; once where both are equal."""

    def read(report: Report) -> Any:
        before, after = (
            _read(context, source) for context in (report.context.before, report.context.after)
        )
        if isinstance(before, NotMeasured) or said(before) == said(after):
            return before
        return f"{said(before)[0]} before, {said(after)[0]} after"

    return read


def _clocks(context: Context) -> Any:
    if not context.clocks:
        return NotMeasured("no cpufreq in /sys")
    lines = []
    for policy in context.clocks:
        ends = [getattr(policy, key) for key in ("minimum_mhz", "maximum_mhz")]
        span = f", {ends[0]:g} to {ends[1]:g} MHz" if all(map(is_measured, ends)) else ""
        lines.append(f"{said(policy.governor)[0]} on {policy.cpus or policy.name}{span}")
    return "; ".join(lines)


def _clock_during(report: Report) -> Any:
    clocks = figure(report.context.during, "clocks")
    if is_measured(clocks) and len(clocks) > 1:  # of reports of earlier agents, one range for all
        return ", ".join(f"{name} {_range(one)}" for name, one in clocks.items())
    return derive(_range, figure(report.context.during, "clock"))


def _range(clock: ClockRange) -> str:
    low, high = clock.lowest_mhz, clock.highest_mhz
    return f"{low:g} MHz" if low == high else f"{low:g} to {high:g} MHz"


def _temperatures(context: Context) -> Any:
    zones = context.temperatures_celsius
    if not zones:
        return NotMeasured("no zone in /sys/class/thermal")
    return ", ".join(f"{name} {degrees:.1f}" for name, degrees in zones.items())


def _firmware_bits(context: Context) -> Any:
    return derive("{:#x}".format, context.throttle.firmware_bits)


def _witnesses(context: Context) -> str:
    """Throttling as others than a Raspberry Pi's firmware see it."""
    throttle = context.throttle
    found = []
    if throttle.undervoltage_alarm is True:
        found.append("under-voltage alarm")
    if not isinstance(throttle.overcurrent_events, NotMeasured):
        found += [f"{name}: {count}" for name, count in throttle.overcurrent_events.items()]
    if is_measured(throttle.core_throttle_events):
        found.append(f"core throttle events: {throttle.core_throttle_events}")
    found += [f"{name}: state {state}" for name, state in throttle.cpu_cooling_states.items()]
    return ", ".join(found) or NONE


def _meanwhile(report: Report) -> Any:
    """The same, seen during the run; earlier agents did not look."""
    during = report.context.during
    if isinstance(during, NotMeasured):
        return during
    found = ["under-voltage alarm"] if during.undervoltage_alarm is True else []
    found += [
        f"{name}: state {state}" for name, state in during.cpu_cooling_states.items() if state
    ]
    return ", ".join(found) or NONE


def _synchronised(report: Report) -> Any:
    known = report.context.before.clock_synchronised
    if known == NOT_LOOKED:
        return NotMeasured("an earlier agent did not look")
    words = {True: "synchronised", False: "not synchronised: the date may be wrong"}
    return derive(words.__getitem__, known)


def _memory(memory: Memory) -> str:
    swap = f", {memory.swap_used_mib:,} in swap" if memory.swap_used_mib else ""
    return f"{memory.total_mib:,} MiB{swap}"


def _core_clock(report: Report) -> Any:
    return derive(lambda hz: f"{hz / 1e6:g} MHz", figure(report.firmware, "clock_hz"))


def _supply(context: Context) -> Any:
    parts = []
    if is_measured(context.supply_max_ma):
        parts.append(f"{context.supply_max_ma:,} mA")
    if is_measured(context.supply_volts):
        parts.append(f"{context.supply_volts:.3f} V")
    return ", ".join(parts) or context.supply_max_ma


def _cpus(report: Report) -> str:
    latency = report.latency
    if isinstance(latency, NotMeasured):
        return NONE
    return f"{_numbers(latency.cpus)}; threads: {latency.threads}"


def _numbers(cpus: Sequence[int]) -> str:
    return ", ".join(map(str, cpus)) or "any"


_OF_BUNDLE = ("Compiled by", "Compiled for", "Taken (UTC)", "Bundle, SHA-256", "Model, SHA-256")
# A fact's label: where it lies, or what reads it.
_OF_MOMENT: Mapping[str, str | Callable[[Context], Any]] = {
    "Board": "board",
    "Host name": "hostname",
    "CPU": "cpu",
    "CPUs": "cpu_count",
    "Load, one minute": "load_1min",
    "Kernel": "kernel",
    "System": "system",
    "Python": "python",
    "Taken (UTC)": "taken_utc",
    "Governor and clock": _clocks,
    "Temperature (°C)": _temperatures,
    "Throttling bits": _firmware_bits,
}
_OF_REPORT: Mapping[str, str | Callable[[Report], Any]] = {
    "Board": "context.before.board",
    "Host name": "context.before.hostname",
    "CPU": "context.before.cpu",
    "CPUs": "context.before.cpu_count",
    "Isolated CPUs": lambda report: report.context.before.isolated_cpus or "none",
    "Ran on CPUs": _cpus,
    "Governor and clock": _change(_clocks),
    "Clock during the run": _clock_during,
    "Temperature (°C)": _change(_temperatures),
    "Hottest during the run (°C)": "context.during.hottest_celsius",
    "Throttling bits": _change(_firmware_bits),
    "Other signs of throttling": _change(_witnesses),
    "Signs of throttling during the run": _meanwhile,
    "Supply": _change(_supply),
    "Power mode": _change("power_mode"),
    "Load, one minute": _change("load_1min"),
    "Memory": _change(lambda context: derive(_memory, context.memory)),
    "Kernel": "context.before.kernel",
    "System": "context.before.system",
    "Jetson Linux": "context.before.l4t",
    "Python": "context.before.python",
    "Agent": "agent",
    "Compiled by": lambda report: ", ".join(map(" ".join, sorted(report.bundle.tools.items()))),
    "Compiled for": "bundle.target.name",
    "Taken (UTC)": "context.before.taken_utc",
    "Clock of the board": _synchronised,
    "Bundle, SHA-256": "bundle.sha256",
    "Model, SHA-256": "bundle.model_sha256",
}
# A microcontroller has none of the rest.
_OF_FIRMWARE: Mapping[str, str | Callable[[Report], Any]] = {
    "Board": "context.before.board",
    "CPU": "context.before.cpu",
    "Counted by": "firmware.counter",
    "Clock that the firmware is built for": _core_clock,
    **{label: source for label, source in _OF_REPORT.items() if label in _OF_BUNDLE},
}
