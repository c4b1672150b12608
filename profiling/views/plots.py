"""Accuracy against arithmetic and against time: what the page draws of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from headgate.device.agent.absent import is_measured
from headgate.profiling import charts, units
from headgate.profiling.charts.scatter import FILLS, key_mark
from headgate.profiling.data import Page
from headgate.profiling.method_row import counts_differ

METHOD_NAMES = {
    "dense": "dense",
    "fbs": "FBS",
    "dcp": "DCP",
    "cgnet": "CGNet",
    "frs": "pruned by feature relevance",
    "gated": "gated",
    "pruned": "pruned",
    "peer": "peer",
}
PROGRAM_FILLS = dict(zip(("headgate", "TFLite fp32", "TFLite int8"), FILLS, strict=True))


def trade_offs(page: Page) -> list[dict[str, Any]]:
    """The two scatter plots; none where fewer than two networks have an accuracy."""
    entries = list(_from_methods(page) if page.methods else _from_comparison(page))
    plots = []
    for key, title, sentence, cost_title, name_cost in (
        (
            "macs",
            "Accuracy against arithmetic",
            "Up and to the left is better: each marker is a network, and the stepped line joins "
            "those that no other beats in both accuracy and executed MACs per image.",
            "mean executed MACs per image",
            units.macs,
        ),
        (
            "latency_us",
            "Accuracy against time",
            "The same networks by what the clock says: up and to the left is better, and the "
            "stepped line joins those that no other beats in both accuracy and median latency.",
            "median latency",
            units.microseconds,
        ),
    ):
        shown = [one for one in entries if one[key] is not None]
        if len(shown) >= 2:
            plots.append(_plot(shown, key, title, sentence, cost_title, name_cost))
    return plots


def _plot(
    entries: Sequence[dict[str, Any]],
    key: str,
    title: str,
    sentence: str,
    cost_title: str,
    name_cost: Callable[[Any], str],
) -> dict[str, Any]:
    points = [
        charts.Point(
            name=one["name"],
            cost=one[key],
            value=one["accuracy"],
            method=one["method"],
            fill=PROGRAM_FILLS.get(one["program"], "solid"),
            title=f"{one['name']}: {units.percent(one['accuracy'], 2)}, {name_cost(one[key])}",
        )
        for one in entries
    ]
    front = charts.pareto_front([one.cost for one in points], [one.value for one in points])
    best = ", ".join(points[index].name for index in front)
    methods = dict.fromkeys(one["method"] for one in entries)
    programs = {one["program"] for one in entries}
    return {
        "title": title,
        "sentence": sentence,
        "drawing": charts.scatter(
            points,
            f"{title} of {len(points)} networks. On the Pareto front: {best}.",
            cost_title,
            "accuracy",
            name_cost,
            lambda value: units.percent(value, 1),
        ),
        "front": best,
        "methods": [(key_mark(one), METHOD_NAMES.get(one, one)) for one in methods],
        # One program needs no key.
        "programs": [
            (key_mark("dense", fill), name)
            for name, fill in PROGRAM_FILLS.items()
            if name in programs and len(programs) > 1
        ],
    }


def method_rows(page: Page) -> list[dict[str, Any]]:
    """The table of methods behind the plots."""
    rows = []
    for row in page.methods:
        macs, latency, realised = row.macs, row.latency_us, row.realised
        rows.append(
            {
                "mark": key_mark(row.method, PROGRAM_FILLS.get(row.program, "solid")),
                "name": row.checkpoint,
                "program": row.program,
                "accuracy": (units.percent(row.accuracy, 2) if is_measured(row.accuracy) else ""),
                "accuracy_note": f"{row.accuracy_images:,} images",
                "macs": units.macs(macs.mean),
                "by_pixel": (
                    f"{units.macs(row.counted_macs)} by pixel"
                    if counts_differ(macs.mean, row.counted_macs)
                    else ""
                ),
                "spread": (
                    "same for every image"
                    if macs.minimum == macs.maximum
                    else f"p95 {units.macs(macs.p95)}, most {units.macs(macs.maximum)}"
                ),
                "fewer": units.times(row.fewer),
                "median": units.microseconds(latency.median),
                "interval": f"{units.microseconds(latency.middle.low)} to "
                f"{units.microseconds(latency.middle.high)}",
                "speedup": units.times(row.speedup.median),
                "realised": realised,
                "weights": f"{row.weights_bytes / 1000:,.0f} kB",
                "file": f"file {row.file_bytes / 1000:,.0f} kB",
            }
        )
    return rows


def _from_methods(page: Page) -> Iterable[dict[str, Any]]:
    most = max(row.accuracy_images for row in page.methods)
    for row in page.methods:
        # An accuracy on a few images must not stand beside one on thousands.
        if not is_measured(row.accuracy) or row.accuracy_images < most:
            continue
        yield {
            "name": row.name,
            "method": row.method,
            "program": row.program,
            "accuracy": row.accuracy,
            # Another program for the same network does the same arithmetic: one marker for both.
            "macs": row.macs.mean if row.program == "headgate" else None,
            "latency_us": row.latency_us.median,
        }


def _from_comparison(page: Page) -> Iterable[dict[str, Any]]:
    comparison = page.comparison
    standings = comparison.standings if comparison else []
    # Of the test set or of the images of this run, but not one beside the other.
    key = next(
        (
            key
            for key in ("accuracy", "accuracy_on_images")
            if sum(is_measured(getattr(one, key)) for one in standings) >= 2
        ),
        None,
    )
    for one in standings:
        if key is None or not is_measured(getattr(one, key)):
            continue
        yield {
            "name": one.name,
            "method": one.kind,
            "program": "headgate",
            "accuracy": getattr(one, key),
            "macs": one.executed_macs if is_measured(one.executed_macs) else None,
            "latency_us": one.latency_us.median,
        }
