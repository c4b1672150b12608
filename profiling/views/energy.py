"""What the page draws of energy: a bar per network, its power over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from headgate.device.agent.energy import Energy, Stretch
from headgate.profiling import units
from headgate.profiling.charts.cells import paired_bars
from headgate.profiling.charts.power import Span, power_trace
from headgate.profiling.machines import Entry


def energy_rows(entries: Sequence[Entry]) -> list[tuple[Entry, Markup]]:
    """Each with a bar of its energy, all on one scale; none where it was not measured."""
    measured = [one.energy for one in entries if isinstance(one.energy, Energy)]
    scale = max((one.energy_per_inference_mj for one in measured), default=0.0)
    return [
        (one, _bar(one.energy, one.kind, scale) if isinstance(one.energy, Energy) else Markup(""))
        for one in entries
    ]


def _bar(energy: Energy, kind: str, scale: float) -> Markup:
    gross, net = energy.energy_per_inference_mj, energy.net_energy_per_inference_mj
    title = f"{units.millijoules(gross)} gross, {units.millijoules(net)} above idle"
    return paired_bars(max(net, 0.0), gross, scale, kind, title)


def traces(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    measured = [(one, one.energy) for one in entries if isinstance(one.energy, Energy)]
    most = max((power for _, energy in measured for _, power in energy.trace), default=0.0)
    return [
        {
            "one": entry,
            "drawing": _drawing(entry, energy, 1.08 * most),
            "gaps": _gaps([energy.idle, *energy.windows]),
            "oddities": [
                f"{count:,} {name.replace('_', ' ')}"
                for name, count in energy.oddities.items()
                if count
            ],
            "rails": _rails(energy),
        }
        for entry, energy in measured
    ]


def _drawing(entry: Entry, energy: Energy, ceiling: float) -> Markup | str:
    if not energy.trace:
        return ""
    spans = [_span("idle", energy.idle, "idle-span", "the idle board")]
    for number, one in enumerate(energy.windows, 1):
        name = f"input {one.sample}"
        title = f"window {number}: {one.inferences:,} inferences of {name}"
        spans.append(_span(name, one, "window-span", title))
    title = f"Power of {entry.label} over time, {len(energy.windows)} windows shaded"
    return power_trace(energy.trace, spans, title, units.milliwatts, ceiling)


def _span(name: str, span: Stretch, kind: str, title: str) -> Span:
    power = span.average_power_mw
    return Span(name, span.start_s, span.end_s, power, kind, f"{title}, {units.milliwatts(power)}")


def _gaps(stretches: Sequence[Stretch]) -> str:
    count = sum(one.gaps for one in stretches)
    return f"{count} gaps, {sum(one.gap_s for one in stretches):.2g} s in all" if count else ""


def _rails(energy: Energy) -> list[tuple[str, float, float, bool]]:
    """Name, idle power, power at work, whether in the total; where there is more than one."""
    rows = []
    for name in energy.channels:
        work = [one.rails_mw[name] for one in energy.windows if name in one.rails_mw]
        if work and name in energy.idle.rails_mw:
            idle = energy.idle.rails_mw[name]
            rows.append((name, idle, sum(work) / len(work), name in energy.total))
    return rows if len(rows) > 1 else []
