"""Accuracy against arithmetic and against time: what the page draws of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup

from headgate.device.agent.absent import is_measured
from headgate.profiling import units
from headgate.profiling.charts.scatter import Point, key_mark, pareto_front, scatter
from headgate.profiling.comparison import Comparison
from headgate.profiling.data import Page
from headgate.profiling.method_row import Row

# Of methods that are called otherwise than they are written.
METHOD_NAMES = {
    "fbs": "FBS",
    "dcp": "DCP",
    "cgnet": "CGNet",
    "frs": "pruned by feature relevance",
}
# Whether headgate's, and whether in float32: how the marker is filled.
_FILLS = {
    (True, True): "solid",
    (True, False): "cored",
    (False, True): "hollow",
    (False, False): "dotted",
}
# The cost, headline, what it shows, what its axis is, how numbers on it are written.
_PLOTS: tuple[tuple[str, str, str, str, Callable[[Any], str]], ...] = (
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
        "What the clock says, in every program and data type: up and to the left is better, and "
        "the stepped line joins those that no other beats in both accuracy and median latency.",
        "median latency",
        units.microseconds,
    ),
)


def trade_offs(page: Page) -> list[dict[str, Any]]:
    """The two scatter plots; none where fewer than two networks have an accuracy."""
    entries = _from_methods(page.methods) if page.methods else _from_comparison(page.comparison)
    plots = []
    for key, title, sentence, cost_title, name_cost in _PLOTS:
        shown = [one for one in entries if one[key] is not None]
        if len(shown) >= 2:
            plots.append(_plot(shown, key, title, sentence, cost_title, name_cost))
    return plots


def mark(row: Row) -> Markup:
    """The marker of a line of the table of methods."""
    return key_mark(row.method, _fill(row.program))


def _fill(program: str) -> str:
    """How markers of a program are filled, by its name with the data type behind."""
    return _FILLS[program.startswith("headgate"), not program.endswith("int8")]


def _plot(
    entries: Sequence[dict[str, Any]],
    key: str,
    title: str,
    sentence: str,
    cost_title: str,
    name_cost: Callable[[Any], str],
) -> dict[str, Any]:
    points = [
        Point(
            name=one["label"],
            cost=one[key],
            value=one["accuracy"],
            method=one["method"],
            fill=_fill(one["program"]),
            title=f"{one['name']}: {units.percent(one['accuracy'], 2)}, {name_cost(one[key])}",
        )
        for one in entries
    ]
    front = pareto_front([one.cost for one in points], [one.value for one in points])
    best = ", ".join(entries[index]["name"] for index in front)
    methods = dict.fromkeys(one["method"] for one in entries)
    programs = dict.fromkeys(one["program"] for one in entries)
    filled = {fill: [one for one in programs if _fill(one) == fill] for fill in _FILLS.values()}
    return {
        "title": title,
        "sentence": sentence,
        "drawing": scatter(
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
            (key_mark("dense", fill), ", ".join(names))
            for fill, names in filled.items()
            if names and len(programs) > 1
        ],
    }


def _from_methods(rows: Sequence[Row]) -> list[dict[str, Any]]:
    most = max(row.accuracy_images for row in rows)
    alone = len({row.network for row in rows}) == 1
    return [
        {
            "name": row.name,
            "label": _label(row) if alone else row.name,
            "method": row.method,
            "program": row.program,
            "accuracy": row.accuracy,
            # Another program for the same network does the same arithmetic: one marker for both.
            "macs": row.macs.mean if row.program == "headgate" else None,
            "latency_us": row.latency_us.median,
        }
        for row in rows
        # An accuracy on a few images must not stand beside one on thousands.
        if is_measured(row.accuracy) and row.accuracy_images == most
    ]


def _label(row: Row) -> str:
    """What the legend does not say: the variant of the page's only network, and which peer."""
    variant = row.checkpoint.removeprefix(row.network).removeprefix("-") or "dense"
    if row.program.startswith("headgate"):
        return variant
    return f"{variant}, {row.program.rpartition(' ')[0]}"


def _from_comparison(comparison: Comparison | None) -> list[dict[str, Any]]:
    standings = comparison.standings if comparison else []
    # Accuracies of the test set or of the images of this run, but not one beside the other.
    for key in ("accuracy", "accuracy_on_images"):
        known = [one for one in standings if is_measured(getattr(one, key))]
        if len(known) >= 2:
            return [
                {
                    "name": one.name,
                    "label": one.name,
                    "method": one.kind,
                    "program": f"{'peer' if one.kind == 'peer' else 'headgate'} {one.dtype}",
                    "accuracy": getattr(one, key),
                    "macs": one.executed_macs if is_measured(one.executed_macs) else None,
                    "latency_us": one.latency_us.median,
                }
                for one in known
            ]
    return []
