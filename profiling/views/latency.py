"""What a page shows of latency: programs timed in turn, and the networks of each machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from markupsafe import Markup

from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.percentiles import Summary
from headgate.profiling import units
from headgate.profiling.charts.cells import histogram, latency_bar
from headgate.profiling.comparison import Comparison, Standing
from headgate.profiling.machines import Board, Entry
from headgate.profiling.missing import derive, figure
from headgate.profiling.statistics import Ratio

TAIL = 2.0  # latency axes end at this many times the longest median
One = TypeVar("One", Standing, Entry)


def with_bars(rows: Sequence[One]) -> list[tuple[One, Markup]]:
    """Each with a bar of its median, all on one scale."""
    known = [one.latency_us for one in rows if isinstance(one.latency_us, Summary)]
    # A tail far out would squeeze all medians to nothing, so it may not.
    longest = max((one.median for one in known), default=1.0)
    scale = 1.02 * min(max((one.p95 for one in known), default=1.0), TAIL * longest)
    return [(one, _bar(one.latency_us, one.kind, scale)) for one in rows]


def _bar(times: Summary | NotMeasured, kind: str, scale: float) -> Markup:
    if isinstance(times, NotMeasured):
        return Markup("")
    ends = times.middle.low, times.middle.high
    interval = " to ".join(map(units.microseconds, ends))
    title = f"median {units.microseconds(times.median)}, 95 % interval {interval}"
    return latency_bar(times.median, *ends, times.p95, scale, kind, title)


def distributions(series: Sequence[tuple[str, str, Sequence[float]]]) -> dict[str, Any] | None:
    """The axis, from the fastest run to the slowest 99th percentile or less, and a row per series.

    Args:
        series: Name, kind (a CSS class) and latencies in microseconds; None for no series.
    """
    if not series:
        return None
    start = min(min(values) for _, _, values in series)
    end = max(float(np.percentile(values, 99)) for _, _, values in series)
    end = min(end, TAIL * max(float(np.median(values)) for _, _, values in series))
    margin = 0.03 * (end - start) or 1.0
    start, end = max(0.0, start - margin), end + margin
    rows = []
    for name, kind, values in series:
        median, title = float(np.median(values)), f"{len(values)} runs of {name}"
        chart = histogram(values, start, end, median, kind, title)
        rows.append((name, kind, len(values), median, chart))
    return {"start": start, "end": end, "rows": rows}


def by_input(entry: Entry) -> str:
    """Least and most of the inputs' medians, where they differ."""
    medians = figure(entry.latency, "median_us_per_input")
    if isinstance(medians, NotMeasured):
        return ""
    least, most = map(units.microseconds, (min(medians), max(medians)))
    return f"by input {least} to {most}" if least != most else ""


def macs_spread(entry: Entry) -> str:
    """Least and most of the MACs executed for an input, where they differ."""
    done = figure(entry.latency, "executed_macs")
    if isinstance(done, NotMeasured) or min(done) == max(done):
        return ""
    return f"{units.macs(min(done))} to {units.macs(max(done))}"


# A number, what it is of, and a note.
Tile = tuple[str, str, str]


def comparison_tiles(comparison: Comparison) -> list[Tile]:
    """The gated network that skips most, in numbers that count."""
    ranked = [
        (one.arithmetic_speedup, one)
        for one in comparison.standings
        if one.kind == "gated" and isinstance(one.arithmetic_speedup, float)
    ]
    if not ranked:
        return []
    arithmetic, best = max(ranked, key=lambda one: one[0])
    done, dense = (derive(units.macs, count) for count in (best.executed_macs, best.dense_macs))
    note = f"{done} MACs executed of {dense}, gates included"
    return [
        *_ratio_tile(best.speedup, "faster", f"{best.name} against {comparison.baseline}"),
        (units.times(arithmetic), "less arithmetic", note),
        *_realised_tile(figure(best.realised, "median"), best.macs_saved),
    ]


def entry_tiles(boards: Sequence[Board]) -> list[Tile]:
    """The variant that saves most time on its machine, in numbers that count."""
    # A run whose energy does not count comes only where there is no other.
    ranked = [
        (not entry.invalid_because(), speedup.median, board.title, entry)
        for board in boards
        for entry in board.entries
        if isinstance(speedup := entry.speedup, Ratio)
    ]
    if not ranked:
        return []
    _, _, title, entry = max(ranked, key=lambda one: one[:2])
    assert entry.baseline is not None
    against = f"{entry.label} against {entry.baseline.label} on {title}"
    return [
        *_ratio_tile(entry.speedup, "faster", against),
        *_ratio_tile(entry.energy_ratio, "less energy", against),
        *_realised_tile(entry.realised, entry.macs_saved),
    ]


_WORSE = {"faster": "of the speed", "less energy": "of the energy efficiency"}


def _ratio_tile(ratio: Ratio | NotMeasured, better: str, against: str) -> list[Tile]:
    if isinstance(ratio, NotMeasured):
        return []
    label = better if ratio.median >= 1 else _WORSE[better]
    return [(units.times(ratio.median), label, f"{against}, {ratio.low:.2f} to {ratio.high:.2f}")]


def _realised_tile(realised: float | NotMeasured, saved: Any) -> list[Tile]:
    if isinstance(realised, NotMeasured):
        return []
    note = f"{units.percent(saved)} of the MACs were saved"
    return [(units.percent(realised), "of the saving realised", note)]
