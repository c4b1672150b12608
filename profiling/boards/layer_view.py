"""The layers of all variants of one network side by side, a column for each."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from headgate.profiling import charts, units
from headgate.profiling.boards.entries import Entry, is_gate
from headgate.profiling.layer_view import with_gates_summed

Data = Mapping[str, Any]

LEAST_US = 0.05  # layers without arithmetic are shown from here on


def layer_tables(families: Sequence[Sequence[Entry]]) -> list[dict[str, Any]]:
    """One table for each family."""
    return [_table(family) for family in families if any(_rows(one) for one in family)]


def _table(family: Sequence[Entry]) -> dict[str, Any]:
    of_entries = [{row["name"]: row for row in _rows(entry)} for entry in family]
    scale = max((row["time_us"] for rows in of_entries for row in rows.values()), default=0.0)
    first = of_entries[0] if family[0].kind == "dense" else {}
    shown = [name for name in _in_order(of_entries) if _is_shown(name, of_entries)]
    return {
        "name": family[0].label,
        "columns": [
            {"name": entry.label, "kind": entry.kind, "total": _total(entry)} for entry in family
        ],
        "rows": [
            {
                "name": Markup(".<wbr>").join(escape(part) for part in name.split(".")),
                "is_gate": any(rows[name]["is_gate"] for rows in of_entries if name in rows),
                "cells": [
                    _cell(rows.get(name), first.get(name), scale, entry.kind)
                    for entry, rows in zip(family, of_entries, strict=True)
                ],
            }
            for name in shown
        ],
        "hidden": len(_in_order(of_entries)) - len(shown),
        "threads": family[0].threads,
        "inputs": family[0].latency["inputs"],
    }


def _rows(entry: Entry) -> list[Data]:
    """The layers, those of each gate as one row."""
    layers = [
        {
            "name": layer["name"],
            "is_gate": is_gate(layer),
            "time_us": layer["median_us"],
            "dense_macs": layer["dense_macs"],
            "done_macs": statistics.fmean(layer["done_macs"]),
            "channels": layer["channels"],
            "active": layer["active_outputs"],
        }
        for layer in entry.latency["layers"]
    ]
    return with_gates_summed(layers)


def _in_order(tables: Sequence[Mapping[str, Data]]) -> list[str]:
    """All names in the order of the longest table; others after what they follow in their own."""
    longest = max(tables, key=len)
    names = list(longest)
    for table in tables:
        place = 0
        for name in table:
            if name not in names:
                names.insert(place, name)
            place = names.index(name) + 1
    return names


def _is_shown(name: str, tables: Sequence[Mapping[str, Data]]) -> bool:
    rows = [table[name] for table in tables if name in table]
    return any(row["dense_macs"] or row["is_gate"] or row["time_us"] >= LEAST_US for row in rows)


def _cell(row: Data | None, dense: Data | None, scale: float, network: str) -> dict[str, Any]:
    if row is None:
        return {"time": "", "bar": "", "notes": []}
    kind = "gate" if row["is_gate"] else network
    notes = []
    if dense is not None and dense is not row and row["time_us"] > 0:
        notes.append(units.times(dense["time_us"] / row["time_us"]))
    if row["done_macs"]:
        notes.append(f"{units.macs(row['done_macs'])} MACs")
    if row["active"] is not None and row["channels"] and not row["is_gate"]:
        notes.append(_active(row["active"], row["channels"]))
    time = units.microseconds(row["time_us"])
    return {
        "time": time,
        "bar": charts.paired_bars(row["time_us"], None, scale, kind, time),
        "notes": notes,
    }


def _active(active: Sequence[int], channels: int) -> str:
    low, high = min(active), max(active)
    if low == high:
        return f"{low:,} of {channels:,} channels"
    return f"{statistics.fmean(active):,.0f} of {channels:,} channels ({low:,} to {high:,})"


def _total(entry: Entry) -> str:
    return units.microseconds(entry.latency["layer_sum_us"])
