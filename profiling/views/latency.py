"""What a page shows of latency: programs timed in turn, and the networks of each machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.check import Check
from headgate.device.agent.latency import Latency
from headgate.device.agent.percentiles import Summary
from headgate.profiling import charts, units
from headgate.profiling.comparison import Comparison, Standing
from headgate.profiling.machines import Entry
from headgate.profiling.statistics import Ratio
from headgate.profiling.views.cells import cell, ratio_cell
from headgate.profiling.views.distribution import TAIL


def standing_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Programs that were timed in turn."""
    scale = _scale(one.latency_us for one in comparison.standings)
    return [_standing(one, comparison, scale) for one in comparison.standings]


def _standing(one: Standing, comparison: Comparison, scale: float) -> dict[str, Any]:
    is_baseline = one.name == comparison.baseline
    accuracy, where = one.accuracy, "test set"
    if isinstance(accuracy, NotMeasured) and isinstance(one.accuracy_on_images, float):
        accuracy, where = one.accuracy_on_images, f"{comparison.images} images"
    speedup = ratio_cell(one.speedup)
    return {
        "name": one.name,
        "kind": one.kind,
        "against": "baseline" if is_baseline else "",
        "is_invalid": False,
        **times_cells(one.latency_us, one.kind, scale),
        "speedup": {**speedup, "interval": "" if is_baseline else speedup["interval"]},
        "macs": cell(one.executed_macs, units.macs),
        "arithmetic": cell(one.arithmetic_speedup, units.times),
        "saved": cell(one.macs_saved, units.percent),
        "realised": cell(one.realised, lambda ratio: units.percent(ratio.median)),
        "accuracy": cell(accuracy, lambda value: units.percent(value, 1)),
        "accuracy_note": "" if isinstance(accuracy, NotMeasured) else where,
        "outputs": {"text": units.percent(one.top1_agreement), "reason": "", "error": ""},
    }


def entry_rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Every network of a machine."""
    scale = _scale(one.times for one in entries)
    return [_entry(entry, scale) for entry in entries]


def _entry(entry: Entry, scale: float) -> dict[str, Any]:
    unknown = NotMeasured("known from latency runs only")
    macs = unknown if entry.executed_macs is None else entry.executed_macs
    row = {
        "name": entry.label,
        "kind": entry.kind,
        "against": f"{entry.kind}, against {entry.baseline.label}" if entry.baseline else "",
        "is_invalid": bool(entry.invalid_because("latency")),
        **times_cells(entry.times, entry.kind, scale),
        "inputs": "",
        "speedup": ratio_cell(entry.speedup()),
        "macs": cell(macs, units.macs),
        "macs_spread": "",
        "saved": cell(entry.macs_saved(), units.percent),
        "realised": cell(entry.realised(), units.percent),
        "outputs": _outputs(entry.report.outputs),
    }
    latency = entry.latency
    if not isinstance(latency, Latency):
        return row
    if isinstance(latency.median_us_per_input, list):
        ends = min(latency.median_us_per_input), max(latency.median_us_per_input)
        least, most = map(units.microseconds, ends)
        row["inputs"] = f"by input {least} to {most}" if least != most else ""
    if min(latency.executed_macs) != max(latency.executed_macs):
        low, high = units.macs(min(latency.executed_macs)), units.macs(max(latency.executed_macs))
        row["macs_spread"] = f"{low} to {high}"
    return row


def _outputs(outputs: Check | NotMeasured) -> dict[str, str]:
    """Are they PyTorch's?"""
    found = cell(outputs, lambda check: "as PyTorch's" if check.passed else "wrong")
    error = f"error {outputs.max_error:.1g}" if isinstance(outputs, Check) else ""
    return {**found, "error": error}


def times_cells(times: Summary | NotMeasured, kind: str, scale: float) -> dict[str, Any]:
    """Median with interval and bar, 95th and 99th percentile."""
    median = cell(times, lambda one: units.microseconds(one.median))
    if isinstance(times, NotMeasured):
        return {"median": median, "interval": "", "bar": "", "tails": []}
    middle = times.middle
    interval = f"{units.microseconds(middle.low)} to {units.microseconds(middle.high)}"
    title = f"median {median['text']}, 95 % interval {interval}"
    bar = charts.latency_bar(middle.value, middle.low, middle.high, times.p95, scale, kind, title)
    tails = [units.microseconds(times.percentiles[name].value) for name in ("p95", "p99")]
    return {"median": median, "interval": interval, "bar": bar, "tails": tails}


def _scale(series: Iterable[Summary | NotMeasured]) -> float:
    """Where the bars end. A tail far out would squeeze all medians to nothing, so it may not."""
    known = [one for one in series if isinstance(one, Summary)]
    longest = max((one.median for one in known), default=1.0)
    return 1.02 * min(max((one.p95 for one in known), default=1.0), TAIL * longest)


def comparison_tiles(comparison: Comparison) -> list[dict[str, str]]:
    """The gated network that skips most, in numbers that count."""
    ranked = [
        (one.arithmetic_speedup, one)
        for one in comparison.standings
        if one.kind == "gated" and isinstance(one.arithmetic_speedup, float)
    ]
    if not ranked:
        return []
    arithmetic, best = max(ranked, key=lambda one: one[0])
    note = f"{units.macs(best.executed_macs)} MACs executed of {units.macs(best.dense_macs)}"
    tiles = [
        _ratio_tile(best.speedup, "faster", f"{best.name} against {comparison.baseline}"),
        {
            "number": units.times(arithmetic),
            "label": "less arithmetic",
            "note": f"{note}, gates included",
        },
    ]
    if isinstance(best.realised, Ratio):
        tiles.append(_realised_tile(best.realised.median, best.macs_saved))
    return tiles


def entry_tiles(machines: Sequence[tuple[str, Sequence[Entry]]]) -> list[dict[str, str]]:
    """The variant that saves most time on its machine, in numbers that count."""
    # A run whose energy does not count comes only where there is no other.
    ranked = [
        (not entry.invalid_because(), speedup.median, title, entry)
        for title, entries in machines
        for entry in entries
        if isinstance(speedup := entry.speedup(), Ratio)
    ]
    if not ranked:
        return []
    _, _, title, entry = max(ranked, key=lambda one: one[:2])
    assert entry.baseline is not None
    against = f"{entry.label} against {entry.baseline.label} on {title}"
    tiles = [
        _ratio_tile(ratio, better, against)
        for ratio, better in (
            (entry.speedup(), "faster"),
            (entry.energy_ratio(), "less energy"),
        )
        if isinstance(ratio, Ratio)
    ]
    realised = entry.realised()
    if isinstance(realised, float):
        tiles.append(_realised_tile(realised, entry.macs_saved()))
    return tiles


_WORSE = {"faster": "of the speed", "less energy": "of the energy efficiency"}


def _ratio_tile(ratio: Ratio, better: str, against: str) -> dict[str, str]:
    return {
        "number": units.times(ratio.median),
        "label": better if ratio.median >= 1 else _WORSE[better],
        "note": f"{against}, {ratio.low:.2f} to {ratio.high:.2f}",
    }


def _realised_tile(realised: float, saved: float | NotMeasured) -> dict[str, str]:
    return {
        "number": units.percent(realised),
        "label": "of the saving realised",
        "note": f"{units.percent(saved)} of the MACs were saved",
    }
