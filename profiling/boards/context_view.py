"""What the page shows of the circumstances: what the runs share, and where they differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headgate.profiling.absent import is_measured
from headgate.profiling.boards.cells import NONE, said
from headgate.profiling.boards.entries import Entry

Data = Mapping[str, Any]
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


def _before(key: str) -> Callable[[Data], Fact]:
    return lambda report: said(report["context"]["before"][key])


def _change(read: Callable[[Data], Any]) -> Callable[[Data], Fact]:
    """A fact before and after the run; once where both are equal."""

    def fact(report: Data) -> Fact:
        before, after = (said(read(report["context"][when])) for when in ("before", "after"))
        if before == after or not before[1]:
            return before
        return f"{before[0]} before, {after[0]} after", True

    return fact


def _clocks(context: Data) -> Any:
    if not context["clocks"]:
        return {"not_measured": "no cpufreq in /sys"}
    lines = []
    for policy in context["clocks"]:
        ends = [policy[key] for key in ("minimum_mhz", "maximum_mhz")]
        span = f", {ends[0]:g} to {ends[1]:g} MHz" if all(map(is_measured, ends)) else ""
        lines.append(f"{said(policy['governor'])[0]} on {policy['cpus'] or policy['name']}{span}")
    return "; ".join(lines)


def _clock_during(report: Data) -> Fact:
    during = report["context"]["during"]
    clock = during["clock"] if is_measured(during) else during
    if not is_measured(clock):
        return said(clock)
    clocks = during.get("clocks", {})  # of reports of earlier agents, one range for all
    if len(clocks) > 1:
        return ", ".join(f"{name} {_range(one)}" for name, one in clocks.items()), True
    return _range(clock), True


def _range(clock: Data) -> str:
    low, high = clock["lowest_mhz"], clock["highest_mhz"]
    return f"{low:g} MHz" if low == high else f"{low:g} to {high:g} MHz"


def _temperatures(context: Data) -> Any:
    zones = context["temperatures_celsius"]
    if not zones:
        return {"not_measured": "no zone in /sys/class/thermal"}
    return ", ".join(f"{name} {degrees:.1f}" for name, degrees in zones.items())


def _hottest(report: Data) -> Fact:
    during = report["context"]["during"]
    return said(during["hottest_celsius"] if is_measured(during) else during)


def _firmware_bits(context: Data) -> Any:
    bits = context["throttle"]["firmware_bits"]
    return f"{bits:#x}" if is_measured(bits) else bits


def _witnesses(context: Data) -> Any:
    """Throttling as others than a Raspberry Pi's firmware see it."""
    throttle = context["throttle"]
    found = []
    if throttle["undervoltage_alarm"] is True:
        found.append("under-voltage alarm")
    if is_measured(throttle["overcurrent_events"]):
        found += [f"{name}: {count}" for name, count in throttle["overcurrent_events"].items()]
    if is_measured(throttle["core_throttle_events"]):
        found.append(f"core throttle events: {throttle['core_throttle_events']}")
    states = throttle["cpu_cooling_states"]
    found += [f"{name}: state {state}" for name, state in states.items()]
    return ", ".join(found) or NONE


def _meanwhile(report: Data) -> Fact:
    """The same, seen during the run; earlier agents did not look."""
    during = report["context"]["during"]
    if not is_measured(during):
        return said(during)
    found = ["under-voltage alarm"] if during.get("undervoltage_alarm") is True else []
    states = during.get("cpu_cooling_states", {})
    found += [f"{name}: state {state}" for name, state in states.items() if state]
    return ", ".join(found) or NONE, True


def _synchronised(report: Data) -> Fact:
    earlier = {"not_measured": "an earlier agent did not look"}
    known = report["context"]["before"].get("clock_synchronised", earlier)
    if not is_measured(known):
        return said(known)
    return ("synchronised" if known else "not synchronised: the date may be wrong"), True


def _memory(context: Data) -> Any:
    memory = context["memory"]
    if not is_measured(memory):
        return memory
    swap = f", {memory['swap_used_mib']:,} in swap" if memory["swap_used_mib"] else ""
    return f"{memory['total_mib']:,} MiB{swap}"


def _supply(context: Data) -> Any:
    parts = []
    if is_measured(context["supply_max_ma"]):
        parts.append(f"{context['supply_max_ma']:,} mA")
    if is_measured(context["supply_volts"]):
        parts.append(f"{context['supply_volts']:.3f} V")
    return ", ".join(parts) or context["supply_max_ma"]


def _cpus(report: Data) -> Fact:
    latency = report["latency"]
    if not is_measured(latency):
        return NONE, True
    threads = latency["threads"]
    return f"{', '.join(map(str, latency['cpus']))}; threads: {threads}", True


def _isolated(report: Data) -> Fact:
    text, measured = said(report["context"]["before"]["isolated_cpus"])
    return text or "none", measured


def _bundle(key: str) -> Callable[[Data], Fact]:
    return lambda report: (str(report["bundle"][key]), True)


def _tools(report: Data) -> Fact:
    tools = report["bundle"]["tools"]
    return ", ".join(f"{name} {version}" for name, version in sorted(tools.items())), True


_FACTS: tuple[tuple[str, Callable[[Data], Fact]], ...] = (
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
    ("Power mode", _change(lambda context: context["power_mode"])),
    ("Load, one minute", _change(lambda context: context["load_1min"])),
    ("Memory", _change(_memory)),
    ("Kernel", _before("kernel")),
    ("System", _before("system")),
    ("Jetson Linux", _before("l4t")),
    ("Python", _before("python")),
    ("Agent", lambda report: (str(report["agent"]), True)),
    ("Compiled by", _tools),
    ("Compiled for", lambda report: (str(report["bundle"]["target"]["name"]), True)),
    ("Taken (UTC)", _before("taken_utc")),
    ("Clock of the board", _synchronised),
    ("Bundle, SHA-256", _bundle("sha256")),
    ("Model, SHA-256", _bundle("model_sha256")),
)
