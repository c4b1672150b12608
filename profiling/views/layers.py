"""The layer tables of a page: one for each network, a row per layer, one per gate."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import add
from typing import Any

import numpy as np

from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.firmware import Firmware
from headgate.device.agent.latency import Latency, LayerTime
from headgate.profiling import units
from headgate.profiling.charts.cells import activity_strip, paired_bars
from headgate.profiling.machines import Board, Entry
from headgate.profiling.missing import derive, figure

LEAST_US = 0.05  # layers without arithmetic are shown from here on


def layer_tables(board: Board) -> list[dict[str, Any]]:
    """Gated and pruned networks first; the dense ones they are held against are folded away."""
    timed = [(one, one.latency) for one in board.entries if isinstance(one.latency, Latency)]
    used = {id(one.baseline) for one, _ in timed}
    views = [{**_table(one, latency), "is_folded": id(one) in used} for one, latency in timed]
    return sorted(views, key=lambda one: bool(one["is_folded"]))


def rows_of(layers: Sequence[LayerTime]) -> list[LayerTime]:
    """The layers, the steps of each gate as one where the first of them runs."""
    return [_joined([layers[index] for index in steps], owner) for owner, steps in _groups(layers)]


def counts_of(layers: Sequence[LayerTime], firmware: Firmware | NotMeasured) -> list[float | None]:
    """What a microcontroller's clock counted of each of these rows; None on other machines."""
    groups = _groups(layers)
    if isinstance(firmware, NotMeasured):
        return [None] * len(groups)
    return [sum(firmware.layer_counts[index] for index in steps) for _, steps in groups]


def _groups(layers: Sequence[LayerTime]) -> list[tuple[str, list[int]]]:
    """A layer by itself, a gate's steps together: the layer that it gates, and their numbers.

    Names of a gate's steps are that of the gated layer, or begin with it.
    """
    gated = sorted({one.name for one in layers if not one.is_gate}, key=len, reverse=True)
    rows: dict[Any, tuple[str, list[int]]] = {}
    for index, layer in enumerate(layers):
        if not layer.is_gate:
            rows[index] = layer.name, [index]
            continue
        owner = next((n for n in gated if layer.name == n or layer.name.startswith(f"{n}.")), "")
        rows.setdefault(owner, (owner, []))[1].append(index)
    return list(rows.values())


def _joined(steps: Sequence[LayerTime], owner: str) -> LayerTime:
    total = steps[0]
    if not total.is_gate:
        return total
    for one in steps[1:]:
        total = replace(
            total,
            executed_macs=list(map(add, total.executed_macs, one.executed_macs)),
            dense_macs=total.dense_macs + one.dense_macs,
            median_us=derive(add, total.median_us, one.median_us),
        )
    return replace(total, name=f"gate of {owner}" if owner else "lists of active channels")


def _table(entry: Entry, latency: Latency) -> dict[str, Any]:
    reference = entry.baseline.latency if entry.baseline else None
    before, counts_before = {}, {}
    if entry.baseline and isinstance(reference, Latency):
        before = {layer.name: layer for layer in rows_of(reference.layers)}
        counts_before = dict(
            zip(before, counts_of(reference.layers, entry.baseline.firmware), strict=True)
        )
    every = rows_of(latency.layers)
    counts = counts_of(latency.layers, entry.firmware)
    # Layers without arithmetic appear only where they take time, or cycles, of note.
    shown = [
        (one, count)
        for one, count in zip(every, counts, strict=True)
        if one.dense_macs or one.is_gate or _us(one) >= LEAST_US or count
    ]
    rows = [one for one, _ in shown]
    us_scale = max(map(_us, [*rows, *before.values()]), default=0.0)
    macs_scale = max((max(one.dense_macs, one.mean_macs) for one in rows), default=0)
    gates = [layer for layer in latency.layers if layer.is_gate]
    done = max(latency.mean_macs, 1)
    return {
        "one": entry,
        "latency": latency,
        "reference": reference,
        "unit": figure(entry.firmware, "unit"),
        "count": figure(entry.firmware, "count"),
        "rows": [
            {
                **_cells(one, before.get(one.name), entry.kind, us_scale, macs_scale),
                "count": count,
                "count_before": counts_before.get(one.name),
                "fewer": None if one.is_gate else _ratio(counts_before.get(one.name), count),
            }
            for one, count in shown
        ],
        "speedup": _ratio(figure(reference, "layer_sum_us"), latency.layer_sum_us),
        "arithmetic": latency.dense_macs / done,
        "gate_macs": sum(one.mean_macs for one in gates) / done,
        "gate_time": _ratio(sum(map(_us, gates)), latency.layer_sum_us),
        "macs_spread": _macs_spread(latency.executed_macs),
        "hidden": len(every) - len(rows),
    }


def _us(layer: LayerTime) -> float:
    """Its time; 0 where an emulator has none."""
    return 0.0 if isinstance(layer.median_us, NotMeasured) else layer.median_us


def _ratio(over: float | NotMeasured | None, under: float | NotMeasured | None) -> float | None:
    """None where one of the two is missing."""
    if not isinstance(over, (int, float)) or not isinstance(under, (int, float)):
        return None
    return over / under if under else None


def _macs_spread(macs: Sequence[int]) -> str:
    if min(macs) == max(macs):
        return f"{units.macs(macs[0])} for every input"
    return spread(macs, units.macs)


def spread(macs: Sequence[int], write: Callable[[float], str]) -> str:
    """Least, mean, 95th percentile and most of the MACs executed for an input."""
    ends = min(macs), statistics.fmean(macs), float(np.percentile(macs, 95)), max(macs)
    return "{} at least, {} in the mean, {} at the 95th percentile, {} at most".format(
        *map(write, ends)
    )


def _cells(
    layer: LayerTime, before: LayerTime | None, kind: str, us_scale: float, macs_scale: float
) -> dict[str, Any]:
    """A layer and the same one of the dense network, with ratios and drawings."""
    time_us, before_us = layer.median_us, figure(before, "median_us")
    done, dense = layer.mean_macs, None if layer.is_gate else layer.dense_macs
    shade = "gate" if layer.is_gate else kind
    title = f"{done:,.0f} MACs executed of {layer.dense_macs:,}"
    cells: dict[str, Any] = {
        "layer": layer,
        "before": before,
        "time_bar": "",
        "macs_bar": paired_bars(done, dense if kind == "gated" else None, macs_scale, shade, title),
        "speedup": None if layer.is_gate else _ratio(before_us, time_us),
        "arithmetic": _ratio(dense, done),
        "active": "",
        "strip": "",
    }
    if not isinstance(time_us, NotMeasured):
        title = units.microseconds(time_us)
        cells["time_bar"] = paired_bars(time_us, before_us, us_scale, shade, title)
    if layer.active_outputs is not None and layer.channels:
        cells["active"] = active_text(layer.active_outputs, layer.channels)
        cells["strip"] = activity_strip(layer.active_outputs, layer.channels)
    return cells


def active_text(active: Sequence[int], channels: int) -> str:
    """``12 of 16``, with the range where inputs differ."""
    if min(active) == max(active):
        return f"{active[0]:,} of {channels:,}"
    p95 = np.percentile(active, 95)
    return (
        f"{np.mean(active):,.1f} of {channels:,} "
        f"({min(active):,} to {max(active):,}, p95 {p95:,.0f})"
    )
