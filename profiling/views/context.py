"""What the page shows of the circumstances: what the runs share, and where they differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from headgate.device.agent.absent import NOT_LOOKED, NotMeasured, is_measured
from headgate.device.agent.context import Context
from headgate.device.agent.frequency import ClockRange
from headgate.device.agent.report import Report
from headgate.profiling.comparison import Comparison
from headgate.profiling.machines import Entry
from headgate.profiling.views.cells import NONE, said

Fact = tuple[str, bool]


def context_facts(entries: Sequence[Entry]) -> dict[str, Any]:
    """Facts that all runs share as a list, the others as a table with a column for each run."""
    rows = [(label, [fact(entry.report) for entry in entries]) for label, fact in _FACTS]
    shared, differing = [], []
    for label, facts in rows:
        if len(set(facts)) == 1:
            shared.append((label, *facts[0]))
        else:
            differing.append((label, facts))
    return {"shared": shared, "differing": differing, "runs": [one.label for one in entries]}


def facts_of(comparison: Comparison) -> list[tuple[str, str, bool]]:
    """Facts of the machine that a comparison ran on, before it."""
    context = comparison.context
    facts = [(label, *said(getattr(context, key))) for label, key in _ONE_MOMENT]
    facts += [
        ("Governor and clock", *said(_clocks(context))),
        ("Temperature (°C)", *said(_temperatures(context))),
        ("Throttling bits", *said(_firmware_bits(context))),
        ("Ran on CPUs", ", ".join(map(str, comparison.cpus)) or "any", True),
    ]
    return facts + [(name, version, True) for name, version in sorted(context.versions.items())]


def _before(key: str) -> Callable[[Report], Fact]:
    return lambda report: said(getattr(report.context.before, key))


def _change(read: Callable[[Context], Any]) -> Callable[[Report], Fact]:
    """A fact before and after the run; once where both are equal."""

    def fact(report: Report) -> Fact:
        before, after = (
            said(read(context)) for context in (report.context.before, report.context.after)
        )
        if before == after or not before[1]:
            return before
        return f"{before[0]} before, {after[0]} after", True

    return fact


def _clocks(context: Context) -> Any:
    if not context.clocks:
        return NotMeasured("no cpufreq in /sys")
    lines = []
    for policy in context.clocks:
        ends = [getattr(policy, key) for key in ("minimum_mhz", "maximum_mhz")]
        span = f", {ends[0]:g} to {ends[1]:g} MHz" if all(map(is_measured, ends)) else ""
        lines.append(f"{said(policy.governor)[0]} on {policy.cpus or policy.name}{span}")
    return "; ".join(lines)


def _clock_during(report: Report) -> Fact:
    during = report.context.during
    if isinstance(during, NotMeasured) or isinstance(during.clock, NotMeasured):
        return said(during if isinstance(during, NotMeasured) else during.clock)
    if len(during.clocks) > 1:  # of reports of earlier agents, one range for all
        return ", ".join(f"{name} {_range(one)}" for name, one in during.clocks.items()), True
    return _range(during.clock), True


def _range(clock: ClockRange) -> str:
    low, high = clock.lowest_mhz, clock.highest_mhz
    return f"{low:g} MHz" if low == high else f"{low:g} to {high:g} MHz"


def _temperatures(context: Context) -> Any:
    zones = context.temperatures_celsius
    if not zones:
        return NotMeasured("no zone in /sys/class/thermal")
    return ", ".join(f"{name} {degrees:.1f}" for name, degrees in zones.items())


def _hottest(report: Report) -> Fact:
    during = report.context.during
    return said(during if isinstance(during, NotMeasured) else during.hottest_celsius)


def _firmware_bits(context: Context) -> Any:
    bits = context.throttle.firmware_bits
    return bits if isinstance(bits, NotMeasured) else f"{bits:#x}"


def _witnesses(context: Context) -> Any:
    """Throttling as others than a Raspberry Pi's firmware see it."""
    throttle = context.throttle
    found = []
    if throttle.undervoltage_alarm is True:
        found.append("under-voltage alarm")
    if not isinstance(throttle.overcurrent_events, NotMeasured):
        found += [f"{name}: {count}" for name, count in throttle.overcurrent_events.items()]
    if is_measured(throttle.core_throttle_events):
        found.append(f"core throttle events: {throttle.core_throttle_events}")
    states = throttle.cpu_cooling_states
    found += [f"{name}: state {state}" for name, state in states.items()]
    return ", ".join(found) or NONE


def _meanwhile(report: Report) -> Fact:
    """The same, seen during the run; earlier agents did not look."""
    during = report.context.during
    if isinstance(during, NotMeasured):
        return said(during)
    found = ["under-voltage alarm"] if during.undervoltage_alarm is True else []
    found += [
        f"{name}: state {state}" for name, state in during.cpu_cooling_states.items() if state
    ]
    return ", ".join(found) or NONE, True


def _synchronised(report: Report) -> Fact:
    known = report.context.before.clock_synchronised
    if isinstance(known, NotMeasured):
        earlier = NotMeasured("an earlier agent did not look")
        return said(earlier if known == NOT_LOOKED else known)
    return ("synchronised" if known else "not synchronised: the date may be wrong"), True


def _memory(context: Context) -> Any:
    memory = context.memory
    if isinstance(memory, NotMeasured):
        return memory
    swap = f", {memory.swap_used_mib:,} in swap" if memory.swap_used_mib else ""
    return f"{memory.total_mib:,} MiB{swap}"


def _supply(context: Context) -> Any:
    parts = []
    if is_measured(context.supply_max_ma):
        parts.append(f"{context.supply_max_ma:,} mA")
    if is_measured(context.supply_volts):
        parts.append(f"{context.supply_volts:.3f} V")
    return ", ".join(parts) or context.supply_max_ma


def _cpus(report: Report) -> Fact:
    latency = report.latency
    if isinstance(latency, NotMeasured):
        return NONE, True
    return f"{', '.join(map(str, latency.cpus)) or 'any'}; threads: {latency.threads}", True


def _isolated(report: Report) -> Fact:
    text, measured = said(report.context.before.isolated_cpus)
    return text or "none", measured


def _bundle(key: str) -> Callable[[Report], Fact]:
    return lambda report: (str(getattr(report.bundle, key)), True)


def _tools(report: Report) -> Fact:
    tools = report.bundle.tools
    return ", ".join(f"{name} {version}" for name, version in sorted(tools.items())), True


_ONE_MOMENT = (
    ("Board", "board"),
    ("Host name", "hostname"),
    ("CPU", "cpu"),
    ("CPUs", "cpu_count"),
    ("Load, one minute", "load_1min"),
    ("Kernel", "kernel"),
    ("System", "system"),
    ("Python", "python"),
    ("Taken (UTC)", "taken_utc"),
)
_FACTS: tuple[tuple[str, Callable[[Report], Fact]], ...] = (
    ("Board", _before("board")),
    ("Host name", _before("hostname")),
    ("CPU", _before("cpu")),
    ("CPUs", _before("cpu_count")),
    ("Isolated CPUs", _isolated),
    ("Ran on CPUs", _cpus),
    ("Governor and clock", _change(_clocks)),
    ("Clock during the run", _clock_during),
    ("Temperature (°C)", _change(_temperatures)),
    ("Hottest during the run (°C)", _hottest),
    ("Throttling bits", _change(_firmware_bits)),
    ("Other signs of throttling", _change(_witnesses)),
    ("Signs of throttling during the run", _meanwhile),
    ("Supply", _change(_supply)),
    ("Power mode", _change(lambda context: context.power_mode)),
    ("Load, one minute", _change(lambda context: context.load_1min)),
    ("Memory", _change(_memory)),
    ("Kernel", _before("kernel")),
    ("System", _before("system")),
    ("Jetson Linux", _before("l4t")),
    ("Python", _before("python")),
    ("Agent", lambda report: (str(report.agent), True)),
    ("Compiled by", _tools),
    ("Compiled for", lambda report: (str(report.bundle.target.name), True)),
    ("Taken (UTC)", _before("taken_utc")),
    ("Clock of the board", _synchronised),
    ("Bundle, SHA-256", _bundle("sha256")),
    ("Model, SHA-256", _bundle("model_sha256")),
)
