"""From report data to what the page shows: texts, drawings, nothing left to compute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headgate.profiling import charts, units
from headgate.profiling.absent import is_measured
from headgate.profiling.distribution_view import TAIL, distribution_rows
from headgate.profiling.effort_view import effort_sections
from headgate.profiling.layer_view import kind_of, layer_tables
from headgate.profiling.plot_view import method_rows, trade_offs

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
        "distributions": distribution_rows(
            [
                (one["name"], one.get("kind") or kind_of(one), one["latencies_us"])
                for one in (comparison["standings"] if comparison else profiles)
                if one["latencies_us"]
            ]
        ),
        "trade_offs": trade_offs(data),
        "methods": method_rows(data),
        **effort_sections(data.get("efforts", [])),
        "profiles": layer_tables(profiles),
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
    latencies = [one["latency_us"] for one in standings]
    longest = max(one["median"] for one in latencies)
    # A busy machine's tail would squeeze all medians to nothing; the number is beside it anyway.
    scale = 1.02 * min(max(one["p95"] for one in latencies), TAIL * longest)
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


def _cell(value: Any, text: str) -> dict[str, Any]:
    """A table cell that explains itself when its value is missing."""
    if is_measured(value):
        return {"text": text, "reason": ""}
    return {"text": "\N{EN DASH}", "reason": value["not_measured"]}


def _unique(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))
