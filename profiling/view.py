"""From report data to what the page shows: texts, drawings, nothing left to compute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from headgate.profiling import charts, units
from headgate.profiling.absent import is_measured

Data = Mapping[str, Any]

_CONTEXT_ROWS = (
    ("cpu", "CPU"),
    ("board", "Board"),
    ("cpu_count", "CPUs"),
    ("architecture", "Architecture"),
    ("pinned_cpu", "Pinned to CPU"),
    ("threads", "Threads"),
    ("governor", "Governor"),
    ("frequency_mhz", "Frequency (MHz)"),
    ("temperature_celsius", "Temperature (°C)"),
    ("throttled", "Throttling bits"),
    ("load_1min", "Load, one minute"),
    ("kernel", "Kernel"),
    ("python", "Python"),
    ("taken_utc", "Taken (UTC)"),
)


def build_view(data: Data) -> dict[str, Any]:
    """Everything the template needs; the same data give the same view."""
    comparison = data.get("comparison")
    profiles = data.get("profiles", [])
    context = comparison["context"] if comparison else profiles[0]["context"] if profiles else None
    reports = [*([comparison] if comparison else []), *profiles]
    return {
        "title": data["title"],
        "headline": _headline(comparison) if comparison else [],
        "standings": _standings(comparison) if comparison else [],
        "comparison": comparison,
        "distributions": _distributions(comparison, profiles),
        "profiles": _profiles(profiles),
        "instructions": _instructions(data.get("instructions", {})),
        "context": _context(context) if context else [],
        "versions": sorted(context["versions"].items()) if context else [],
        "hashes": _hashes(comparison, profiles),
        "warnings": _unique(line for one in reports for line in one["warnings"]),
        "conventions": _unique(
            one[key] for one in reports for key in ("convention", "mac_convention") if key in one
        ),
        "reproduce": data.get("reproduce", []),
        "machine": _machine(context) if context else "",
    }


def _headline(comparison: Data) -> list[dict[str, str]]:
    """The gated network that skips most, in three numbers."""
    gated = [
        one
        for one in comparison["standings"]
        if one["kind"] == "gated" and is_measured(one["arithmetic_speedup"])
    ]
    if not gated:
        return []
    best = max(gated, key=lambda one: one["arithmetic_speedup"])
    base = comparison["baseline"]
    speedup = best["speedup"]
    tiles = [
        {
            "number": units.times(speedup["median"]),
            "label": "faster" if speedup["median"] >= 1 else "of the speed",
            "note": f"{best['name']} against {base}, interval {speedup['low']:.2f} to "
            f"{speedup['high']:.2f}",
        },
        {
            "number": units.times(best["arithmetic_speedup"]),
            "label": "less arithmetic",
            "note": f"{units.macs(best['done_macs'])} MACs done of "
            f"{units.macs(best['dense_macs'])}, gates included",
        },
    ]
    if is_measured(best["realised"]):
        realised = best["realised"]
        tiles.append(
            {
                "number": units.percent(realised["median"]),
                "label": "of the saving realised",
                "note": f"{units.percent(best['time_saved'])} of the time saved where "
                f"{units.percent(best['macs_saved'])} of the MACs were",
            }
        )
    return tiles


def _standings(comparison: Data) -> list[dict[str, Any]]:
    standings = comparison["standings"]
    scale = 1.02 * max(one["latency_us"]["p95"] for one in standings)
    rows = []
    for one in standings:
        latency, speedup, realised = one["latency_us"], one["speedup"], one["realised"]
        accuracy, where = one["accuracy"], "test set"
        if not is_measured(accuracy) and is_measured(one["accuracy_on_images"]):
            accuracy, where = one["accuracy_on_images"], f"{comparison['images']} images"
        median = units.microseconds(latency["median"])
        interval = f"{units.microseconds(latency['low'])} to {units.microseconds(latency['high'])}"
        rows.append(
            {
                "name": one["name"],
                "kind": one["kind"],
                "is_baseline": one["name"] == comparison["baseline"],
                "accuracy": _cell(accuracy, units.percent(accuracy, 1)),
                "accuracy_note": where if is_measured(accuracy) else "",
                "median": median,
                "interval": interval,
                "p95": units.microseconds(latency["p95"]),
                "spread": units.microseconds(latency["spread"]),
                "bar": charts.latency_bar(
                    latency["median"],
                    latency["low"],
                    latency["high"],
                    latency["p95"],
                    scale,
                    one["kind"],
                    f"median {median}, 95 % interval {interval}",
                ),
                "speedup": units.times(speedup["median"]),
                "speedup_interval": (
                    ""
                    if one["name"] == comparison["baseline"]
                    else f"{speedup['low']:.2f} to {speedup['high']:.2f}"
                ),
                "macs": _cell(one["done_macs"], units.macs(one["done_macs"])),
                "arithmetic": _cell(
                    one["arithmetic_speedup"], units.times(one["arithmetic_speedup"])
                ),
                "realised": _cell(
                    realised, units.percent(realised["median"]) if is_measured(realised) else ""
                ),
                "agreement": units.percent(one["top1_agreement"]),
            }
        )
    return rows


def _distributions(comparison: Data | None, profiles: Sequence[Data]) -> list[dict[str, Any]]:
    """Histograms on one axis, from the fastest run to the slowest 99th percentile."""
    entries = comparison["standings"] if comparison else profiles
    series = [
        (one["name"], one.get("kind") or _kind(one), one["latencies_us"])
        for one in entries
        if one["latencies_us"]
    ]
    if not series:
        return []
    start = min(min(values) for _, _, values in series)
    end = max(float(np.percentile(values, 99)) for _, _, values in series)
    margin = 0.03 * (end - start) or 1.0
    start, end = max(0.0, start - margin), end + margin
    rows = []
    for name, kind, values in series:
        median = float(np.median(values))
        title = f"{len(values)} runs of {name}"
        rows.append(
            {
                "name": name,
                "kind": kind,
                "runs": len(values),
                "median": units.microseconds(median),
                "chart": charts.histogram(values, start, end, median, kind, title),
                "start": units.microseconds(start),
                "end": units.microseconds(end),
            }
        )
    return rows


def _profiles(profiles: Sequence[Data]) -> list[dict[str, Any]]:
    """Gated networks first; the dense ones they are held against are folded away below."""
    references = {one["name"]: _reference(one, profiles) for one in profiles}
    used = {one["name"] for one in references.values() if one}
    views = [_profile(one, references[one["name"]]) for one in profiles]
    for one in views:
        one["is_folded"] = one["name"] in used
    return sorted(views, key=lambda one: bool(one["is_folded"]))


def _reference(profile: Data, profiles: Sequence[Data]) -> Data | None:
    """The dense profile that a gated one is held against."""
    if _kind(profile) == "dense":
        return None
    for other in profiles:
        if _kind(other) == "dense" and other["machine"] == profile["machine"]:
            return other
    return None


def _profile(profile: Data, reference: Data | None) -> dict[str, Any]:
    layers = [layer for layer in _with_gates_summed(profile["layers"]) if _is_shown(layer)]
    before = {layer["name"]: layer for layer in reference["layers"]} if reference else {}
    everything = [*layers, *before.values()]
    time_scale = max((_time(layer) or 0.0 for layer in everything), default=0.0)
    macs_scale = max((max(layer["dense_macs"], layer["done_macs"]) for layer in layers), default=0)
    total = profile["layer_time_us"]
    gate_time = profile["gate_time_us"]
    return {
        "name": profile["name"],
        "kind": _kind(profile),
        "target": profile["target"],
        "machine": profile["machine"],
        "images": profile["images"],
        "runs": profile["runs"],
        "reference": reference["name"] if reference else None,
        "is_timed": is_measured(total),
        "untimed_reason": "" if is_measured(total) else total["not_measured"],
        "rows": [
            _layer(layer, before.get(layer["name"]), time_scale, macs_scale, _kind(profile))
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
        "has_gates": _kind(profile) == "gated",
        "hidden": sum(not one["is_gate"] and not _is_shown(one) for one in profile["layers"]),
    }


def _with_gates_summed(layers: Sequence[Data]) -> list[Data]:
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
        return f"{active[0]} of {channels}"
    return f"{np.mean(active):.0f} of {channels} ({min(active)} to {max(active)})"


def _instructions(counts: Mapping[str, Data]) -> list[dict[str, str]]:
    return [
        {
            "name": name,
            "machine": f"{count['machine']} ({count['cpu']}, {count['tool']})",
            "instructions": units.instructions(count["instructions"]),
            "macs": units.macs(count["done_macs"]),
            "per_mac": f"{count['instructions'] / max(count['done_macs'], 1):.3f}",
            "exact": "yes" if count["exact"] else "no",
        }
        for name, count in counts.items()
    ]


def _context(context: Data) -> list[tuple[str, str, bool]]:
    """Label, text, and whether it was measured."""
    rows = []
    for key, label in _CONTEXT_ROWS:
        value = context[key]
        if not is_measured(value):
            rows.append((label, f"not measured: {value['not_measured']}", False))
        elif isinstance(value, float):
            rows.append((label, f"{value:g}", True))
        else:
            rows.append((label, str(value), True))
    return rows


def _hashes(comparison: Data | None, profiles: Sequence[Data]) -> list[tuple[str, str]]:
    found = dict(comparison["context"]["bundles"]) if comparison else {}
    for profile in profiles:
        found.setdefault(profile["name"], profile["bundle_sha256"])
    return sorted(found.items())


def _machine(context: Data) -> str:
    board = context["board"] if is_measured(context["board"]) else context["cpu"]
    name = board if is_measured(board) else context["architecture"]
    return f"{name}, {context['taken_utc'].replace('T', ' ').removesuffix('Z')} UTC"


def _kind(profile: Data) -> str:
    gated = any(layer["active_channels"] is not None for layer in profile["layers"])
    return "gated" if gated else "dense"


def _is_shown(layer: Data) -> bool:
    """Layers without arithmetic appear only where they take time of note."""
    return bool(layer["dense_macs"] or layer["is_gate"] or (_time(layer) or 0.0) >= 0.05)


def _time(layer: Data | None) -> float | None:
    if layer is None or not is_measured(layer["time_us"]):
        return None
    return float(layer["time_us"])


def _cell(value: Any, text: str) -> dict[str, Any]:
    """A table cell that explains itself when its value is missing."""
    if is_measured(value):
        return {"text": text, "reason": ""}
    return {"text": "\N{EN DASH}", "reason": value["not_measured"]}


def _unique(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))
