"""The layer tables of a page: one for each network, a row per layer, one per gate."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.latency import Latency, LayerTime
from headgate.profiling import charts, units
from headgate.profiling.machines import Board, Entry

LEAST_US = 0.05  # layers without arithmetic are shown from here on


@dataclass(frozen=True)
class Row:
    """One layer, or all the steps of one gate."""

    name: str
    operator: str
    is_gate: bool
    time_us: float | None
    dense_macs: int
    executed_macs: float
    """Executed, mean over the inputs."""
    channels: int | None
    active: list[int] | None
    """Active channels for each input."""

    @property
    def is_shown(self) -> bool:
        """Layers without arithmetic appear only where they take time of note."""
        return bool(self.dense_macs or self.is_gate or (self.time_us or 0.0) >= LEAST_US)


def layer_tables(board: Board) -> list[dict[str, Any]]:
    """Gated and pruned networks first; the dense ones they are held against are folded away."""
    timed = [(one, one.latency) for one in board.entries if isinstance(one.latency, Latency)]
    used = {id(one.baseline) for one, _ in timed}
    views = [{**_table(one, latency), "is_folded": id(one) in used} for one, latency in timed]
    return sorted(views, key=lambda one: bool(one["is_folded"]))


def rows_of(layers: Sequence[LayerTime]) -> list[Row]:
    """The layers, the steps of each gate as one row where the first of them runs.

    A gate is several small steps: means, predictor, selection, list. Their names are that of the
    gated layer, or begin with it.
    """
    gated = sorted({one.name for one in layers if not one.is_gate}, key=len, reverse=True)
    rows: dict[Any, Row] = {}
    for index, layer in enumerate(layers):
        row = _row(layer)
        if not row.is_gate:
            rows[index] = row
            continue
        owner = next((n for n in gated if row.name == n or row.name.startswith(f"{n}.")), "")
        if (total := rows.get(owner)) is None:
            label = f"gate of {owner}" if owner else "lists of active channels"
            rows[owner] = replace(row, name=label)
            continue
        rows[owner] = replace(
            total,
            executed_macs=total.executed_macs + row.executed_macs,
            dense_macs=total.dense_macs + row.dense_macs,
            time_us=None if total.time_us is None else total.time_us + (row.time_us or 0.0),
        )
    return list(rows.values())


def _row(layer: LayerTime) -> Row:
    return Row(
        name=layer.name,
        operator=layer.operator,
        is_gate=layer.is_gate,
        time_us=None if isinstance(layer.median_us, NotMeasured) else layer.median_us,
        dense_macs=layer.dense_macs,
        executed_macs=layer.mean_macs,
        channels=layer.channels,
        active=layer.active_outputs,
    )


def _table(entry: Entry, latency: Latency) -> dict[str, Any]:
    every = rows_of(latency.layers)
    rows = [row for row in every if row.is_shown]
    base = entry.baseline
    reference = base.latency if base and isinstance(base.latency, Latency) else None
    before = {row.name: row for row in rows_of(reference.layers)} if reference else {}
    time_scale = max((row.time_us or 0.0 for row in [*rows, *before.values()]), default=0.0)
    macs_scale = max((max(row.dense_macs, row.executed_macs) for row in rows), default=0)
    total = latency.layer_sum_us
    gates = [layer for layer in latency.layers if layer.is_gate]
    done = latency.mean_macs
    view: dict[str, Any] = {
        "name": entry.label,
        "kind": entry.kind,
        "target": entry.report.bundle.target.name,
        "inputs": latency.inputs,
        "threads": latency.threads,
        "reference": base.label if base else None,
        "is_timed": isinstance(total, float),
        "untimed_reason": total.reason if isinstance(total, NotMeasured) else "",
        "rows": [_cells(row, before.get(row.name), time_scale, macs_scale, entry) for row in rows],
        "total_time": units.microseconds(total),
        "reference_time": units.microseconds(reference.layer_sum_us) if reference else "",
        "total_speedup": "",
        "total_arithmetic": units.times(latency.dense_macs / max(done, 1)),
        "dense_macs": units.macs(latency.dense_macs),
        "executed_macs": units.macs(done),
        "gate_macs": units.percent(sum(one.mean_macs for one in gates) / max(done, 1), 1),
        "gate_time": units.ABSENT,
        "has_gates": entry.kind == "gated",
        "macs_spread": _spread(latency.executed_macs),
        "hidden": len(every) - len(rows),
    }
    if isinstance(total, float) and total > 0:
        of_gates = sum(one.median_us for one in gates if isinstance(one.median_us, float))
        view["gate_time"] = units.percent(of_gates / total, 1)
        if reference and isinstance(reference.layer_sum_us, float):
            view["total_speedup"] = units.times(reference.layer_sum_us / total)
    return view


def _spread(macs: Sequence[int]) -> str:
    """Least, mean, 95th percentile and most of the MACs executed for an input."""
    mean = statistics.fmean(macs)
    if min(macs) == max(macs):
        return f"{units.macs(mean)} for every input"
    p95 = float(np.percentile(macs, 95))
    return (
        f"{units.macs(min(macs))} at least, {units.macs(mean)} in the mean, "
        f"{units.macs(p95)} at the 95th percentile, {units.macs(max(macs))} at most"
    )


def _cells(
    row: Row, before: Row | None, time_scale: float, macs_scale: float, entry: Entry
) -> dict[str, Any]:
    time_us, time_before = row.time_us, before.time_us if before else None
    kind = "gate" if row.is_gate else entry.kind
    dense, done = row.dense_macs, row.executed_macs
    times = "" if time_us is None else units.microseconds(time_us)
    cells: dict[str, Any] = {
        "name": Markup(".<wbr>").join(escape(part) for part in row.name.split(".")),
        "operator": row.operator,
        "is_gate": row.is_gate,
        "time": times,
        "time_before": "" if time_before is None else units.microseconds(time_before),
        "time_bar": "",
        "macs": units.macs(done) if done else "",
        "macs_before": units.macs(dense) if dense and not row.is_gate else "",
        "macs_bar": charts.paired_bars(
            done,
            dense if entry.kind == "gated" and not row.is_gate else None,
            macs_scale,
            kind,
            f"{done:,.0f} MACs executed of {dense:,}",
        ),
        "speedup": "",
        "arithmetic": "",
        "strip": "",
        "active": "",
    }
    if time_us is not None:
        cells["time_bar"] = charts.paired_bars(time_us, time_before, time_scale, kind, times)
    if time_us and time_before and not row.is_gate:
        cells["speedup"] = units.times(time_before / time_us)
    if done and not row.is_gate and dense:
        cells["arithmetic"] = units.times(dense / done)
    if row.active is not None and row.channels:
        cells["strip"] = charts.activity_strip(row.active, row.channels)
        cells["active"] = active_text(row.active, row.channels)
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
