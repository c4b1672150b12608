"""The layer tables of a report: one row per layer, one per gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from headgate.profiling import charts, units
from headgate.profiling.absent import is_measured

Data = Mapping[str, Any]


def layer_tables(profiles: Sequence[Data]) -> list[dict[str, Any]]:
    """Gated networks first; the dense ones they are held against are folded away below."""
    references = {one["name"]: _reference(one, profiles) for one in profiles}
    used = {one["name"] for one in references.values() if one}
    views = [_profile(one, references[one["name"]]) for one in profiles]
    for one in views:
        one["is_folded"] = one["name"] in used
    return sorted(views, key=lambda one: bool(one["is_folded"]))


def kind_of(profile: Data) -> str:
    """``gated`` or ``dense``."""
    gated = any(layer["active_channels"] is not None for layer in profile["layers"])
    return "gated" if gated else "dense"


def _reference(profile: Data, profiles: Sequence[Data]) -> Data | None:
    """The dense profile that a gated one is held against."""
    if kind_of(profile) == "dense":
        return None
    for other in profiles:
        if kind_of(other) == "dense" and other["machine"] == profile["machine"]:
            return other
    return None


def _profile(profile: Data, reference: Data | None) -> dict[str, Any]:
    layers = [layer for layer in with_gates_summed(profile["layers"]) if _is_shown(layer)]
    before = {layer["name"]: layer for layer in reference["layers"]} if reference else {}
    everything = [*layers, *before.values()]
    time_scale = max((_time(layer) or 0.0 for layer in everything), default=0.0)
    macs_scale = max((max(layer["dense_macs"], layer["done_macs"]) for layer in layers), default=0)
    total = profile["layer_time_us"]
    gate_time = profile["gate_time_us"]
    return {
        "name": profile["name"],
        "kind": kind_of(profile),
        "target": profile["target"],
        "machine": profile["machine"],
        "images": profile["images"],
        "runs": profile["runs"],
        "reference": reference["name"] if reference else None,
        "is_timed": is_measured(total),
        "untimed_reason": "" if is_measured(total) else total["not_measured"],
        "rows": [
            _layer(layer, before.get(layer["name"]), time_scale, macs_scale, kind_of(profile))
            for layer in layers
        ],
        "total_time": units.microseconds(total),
        "reference_time": units.microseconds(reference["layer_time_us"]) if reference else "",
        "total_speedup": (
            units.times(reference["layer_time_us"] / total)
            if reference and is_measured(total) and total
            else ""
        ),
        "total_arithmetic": units.times(profile["dense_macs"] / max(profile["done_macs"], 1)),
        "dense_macs": units.macs(profile["dense_macs"]),
        "done_macs": units.macs(profile["done_macs"]),
        "gate_macs": units.percent(profile["gate_macs"] / max(profile["done_macs"], 1), 1),
        "gate_time": (
            units.percent(gate_time / total, 1) if is_measured(total) and total else units.ABSENT
        ),
        "has_gates": kind_of(profile) == "gated",
        "macs_spread": _spread(profile["macs_per_image"]),
        "hidden": sum(not one["is_gate"] and not _is_shown(one) for one in profile["layers"]),
    }


def _spread(macs: Data) -> str:
    """Least, mean, 95th percentile and most of the MACs done for an image."""
    if macs["minimum"] == macs["maximum"]:
        return f"{units.macs(macs['mean'])} for every image"
    return (
        f"{units.macs(macs['minimum'])} at least, {units.macs(macs['mean'])} in the mean, "
        f"{units.macs(macs['p95'])} at the 95th percentile, {units.macs(macs['maximum'])} at most"
    )


def with_gates_summed(layers: Sequence[Data]) -> list[Data]:
    """The steps of each gate as one row, where the first of them runs.

    A gate is several small steps: means, predictor, selection, list. Their names are that of the
    gated layer, or begin with it.
    """
    gated = sorted({one["name"] for one in layers if not one["is_gate"]}, key=len, reverse=True)
    rows: list[dict[str, Any]] = []
    sums: dict[str, dict[str, Any]] = {}
    for layer in layers:
        if not layer["is_gate"]:
            rows.append(dict(layer))
            continue
        name = layer["name"]
        owner = next((one for one in gated if name == one or name.startswith(f"{one}.")), "")
        if owner in sums:
            total = sums[owner]
            total["done_macs"] += layer["done_macs"]
            total["dense_macs"] += layer["dense_macs"]
            if is_measured(total["time_us"]):
                total["time_us"] += layer["time_us"]
        else:
            label = f"gate of {owner}" if owner else "lists of active channels"
            sums[owner] = {**layer, "name": label}
            rows.append(sums[owner])
    return list(rows)


def _layer(
    layer: Data, before: Data | None, time_scale: float, macs_scale: float, network: str
) -> dict[str, Any]:
    time_us, time_before = _time(layer), _time(before)
    kind = "gate" if layer["is_gate"] else network
    dense, done = layer["dense_macs"], layer["done_macs"]
    times = "" if time_us is None else units.microseconds(time_us)
    row = {
        "name": _breakable(layer["name"]),
        "operator": layer["operator"],
        "is_gate": layer["is_gate"],
        "time": times,
        "time_before": "" if time_before is None else units.microseconds(time_before),
        "time_bar": "",
        "macs": units.macs(done) if done else "",
        "macs_before": units.macs(dense) if dense and not layer["is_gate"] else "",
        "macs_bar": charts.paired_bars(
            done,
            dense if network == "gated" and not layer["is_gate"] else None,
            macs_scale,
            kind,
            f"{done:,.0f} MACs done of {dense:,}",
        ),
        "speedup": "",
        "arithmetic": "",
        "strip": "",
        "active": "",
    }
    if time_us is not None:
        row["time_bar"] = charts.paired_bars(time_us, time_before, time_scale, kind, times)
    if time_us and time_before and not layer["is_gate"]:
        row["speedup"] = units.times(time_before / time_us)
    if done and not layer["is_gate"] and dense:
        row["arithmetic"] = units.times(dense / done)
    if layer["active_channels"] is not None:
        active, channels = layer["active_channels"], layer["channels"]
        row["strip"] = charts.activity_strip(active, channels)
        row["active"] = _active_text(active, channels)
    return row


def _breakable(name: str) -> Markup:
    """A dotted name that may wrap after its dots."""
    return Markup(".<wbr>").join(escape(part) for part in name.split("."))


def _active_text(active: Sequence[int], channels: int) -> str:
    if min(active) == max(active):
        return f"{active[0]:,} of {channels:,}"
    p95 = np.percentile(active, 95)
    return (
        f"{np.mean(active):,.0f} of {channels:,} "
        f"({min(active):,} to {max(active):,}, p95 {p95:,.0f})"
    )


def _is_shown(layer: Data) -> bool:
    """Layers without arithmetic appear only where they take time of note."""
    return bool(layer["dense_macs"] or layer["is_gate"] or (_time(layer) or 0.0) >= 0.05)


def _time(layer: Data | None) -> float | None:
    if layer is None or not is_measured(layer["time_us"]):
        return None
    return float(layer["time_us"])
