"""What the page shows of energy: a row per network, its sensor, the power trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.energy import Energy, Stretch
from headgate.profiling import charts, units
from headgate.profiling.charts.power import Span
from headgate.profiling.machines import Entry
from headgate.profiling.missing import derive


def energy_rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Every network's; the reason where there is none."""
    measured = [one.energy for one in entries if isinstance(one.energy, Energy)]
    scale = max((one.energy_per_inference_mj for one in measured), default=0.0)
    return [_row(entry, scale) for entry in entries]


def _row(entry: Entry, scale: float) -> dict[str, Any]:
    energy = entry.energy
    row: dict[str, Any] = {
        "name": entry.label,
        "kind": entry.kind,
        "reason": energy.reason if isinstance(energy, NotMeasured) else "",
        "is_invalid": bool(entry.invalid_because()),
    }
    if isinstance(energy, NotMeasured):
        return row
    gross, net = energy.energy_per_inference_mj, energy.net_energy_per_inference_mj
    grosses = [window.energy_per_inference_mj for window in energy.windows]
    return row | {
        "gross": units.millijoules(gross),
        "range": f"{units.millijoules(min(grosses))} to {units.millijoules(max(grosses))}",
        "net": units.millijoules(net),
        "bar": charts.paired_bars(
            max(net, 0.0),
            gross,
            scale,
            entry.kind,
            f"{units.millijoules(gross)} gross, {units.millijoules(net)} above idle",
        ),
        "ratio": entry.energy_ratio,
        "delay": units.energy_delay(energy.energy_delay_mj_ms),
        "power": units.milliwatts(energy.average_power_mw),
        "idle": units.milliwatts(energy.idle.average_power_mw),
        "per_mac": _per_mac(entry, energy),
    }


def _per_mac(entry: Entry, energy: Energy) -> float | NotMeasured:
    """Nanojoules, gross."""
    if entry.executed_macs == 0:
        return NotMeasured("no MACs were executed")
    return derive(lambda macs: energy.energy_per_inference_mj * 1e6 / macs, entry.executed_macs)


def traces(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """The power trace of every network that has one, and what measured it."""
    measured = [(one, one.energy) for one in entries if isinstance(one.energy, Energy)]
    most = max((power for _, energy in measured for _, power in energy.trace), default=0.0)
    return [_trace(entry, energy, 1.08 * most) for entry, energy in measured]


def _trace(entry: Entry, energy: Energy, ceiling: float) -> dict[str, Any]:
    windows, idle = energy.windows, energy.idle
    all_spans: list[Stretch] = [idle, *windows]
    spans = [_span("idle", idle, "idle-span", "the idle board")]
    spans += [
        _span(
            f"input {window.sample}",
            window,
            "window-span",
            f"window {number}: {window.inferences:,} inferences of input {window.sample}",
        )
        for number, window in enumerate(windows, 1)
    ]
    gaps = sum(one.gaps for one in all_spans)
    oddities = [f"{count:,} {name.replace('_', ' ')}" for name, count in _odd(energy)]
    points = [(float(time), float(power)) for time, power in energy.trace]
    drawing = charts.power_trace(
        points,
        spans,
        f"Power of {entry.label} over time, {len(windows)} windows shaded",
        units.milliwatts,
        ceiling,
    )
    return {
        "name": entry.label,
        "kind": entry.kind,
        "drawing": drawing if points else "",
        "sensor": energy.sensor,
        "scope": energy.scope,
        "total": " + ".join(energy.total),
        "sources": sorted(energy.channels.items()),
        "rate": f"{energy.rate_hz:.3g} samples a second",
        "polling": f"{units.percent(energy.polling_share, 2)} of the time went into reading it",
        "gaps": (
            f"{gaps} gaps, {sum(one.gap_s for one in all_spans):.2g} s in all"
            if gaps
            else "no gaps"
        ),
        "oddities": ", ".join(oddities),
        "rails": _rails(energy),
    }


def _span(name: str, span: Stretch, kind: str, title: str) -> Span:
    power = span.average_power_mw
    return Span(name, span.start_s, span.end_s, power, kind, f"{title}, {units.milliwatts(power)}")


def _odd(energy: Energy) -> list[tuple[str, int]]:
    return [(name, count) for name, count in energy.oddities.items() if count]


def _rails(energy: Energy) -> list[dict[str, str]]:
    """Each rail idle and at work, where there is more than one."""
    idle = energy.idle.rails_mw
    at_work: dict[str, list[float]] = {}
    for window in energy.windows:
        for name, power in window.rails_mw.items():
            at_work.setdefault(name, []).append(power)
    names = [name for name in energy.channels if name in idle and name in at_work]
    if len(names) < 2:
        return []
    return [
        {
            "name": name,
            "in_total": "yes" if name in energy.total else "no",
            "idle": units.milliwatts(idle[name]),
            "work": units.milliwatts(sum(at_work[name]) / len(at_work[name])),
        }
        for name in names
    ]
