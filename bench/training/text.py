"""RESULTS.md from descriptions of trained networks: what was reached, next to what others say."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.training.dynamics import dynamics_section
from bench.training.trials import Row, trials_section
from bench.training.yardsticks import Yardstick, sources, yardsticks
from headgate.train.macs.result import CONVENTION
from headgate.train.models import create_model, input_shape
from headgate.train.recipe import Recipe, load_recipe, recipe_names

Described = dict[str, Any]

INTRODUCTION = """# Trained networks

Written by `python -m bench.training` from checkpoints/*.json and logs/*.json.

Accuracy: top-1 over the whole test set, in float32, of the weights after the last epoch; no epoch
was picked by its test accuracy. Lost: points of accuracy below the dense network of the same kind
that is named, minus where there was a gain. MACs: per image, see the convention at the end;
executed MACs include the gates' own and are over the first 1,000 test images: their mean, what
5 % and 95 % of the images stay below, and the most. Saved: what the mean is below dense. Pixel
gates are counted per pixel and channel, as CGNet's paper does, and next to it in the tiles that a
kernel computes as a whole.
"""

TITLES = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "imagenet": "ImageNet",
    "places365": "Places365",
}
METHODS = {"fbs": "FBS", "dcp": "DCP", "cgnet": "CGNet", "frs": "feature relevance"}
KNOWN = {
    "text": "read in the text",
    "figure": "read off a figure",
    "quoted": "quoted there",
    "recalled": "recalled, not checked",
}


def results_text(described: Mapping[str, Described], tried: Sequence[Row] = ()) -> str:
    """The whole file: a section a network, then gates, effort, what was not run, sources, terms.

    Args:
        described: descriptions of checkpoints by name, see :func:`describe`.
        tried: rows of trials.json.
    """
    everything = sorted(described.values(), key=_place)
    twins = [row for row in everything if row.get("twin_of")]
    rows = [row for row in everything if not row.get("twin_of")]
    lines = [INTRODUCTION]
    for title, group in groupby(rows, key=_title):
        members = list(group)
        lines += [f"## {title}", ""]
        lines += [*_reached(members, described), "", *_published(members, described), ""]
    lines += ["## Gates that follow the image", "", *dynamics_section(rows, twins), ""]
    lines += ["## Directions tried", "", *trials_section(tried), ""]
    lines += ["## How they were trained", "", *_effort(everything), ""]
    lines += ["## Recipes that were not run", "", *_not_run(described), ""]
    lines += ["## Sources of published figures", ""]
    lines += [f"* {key}: {text}." for key, text in sources().items()]
    lines += ["", "## What is counted", "", CONVENTION]
    return "\n".join(lines) + "\n"


def _title(row: Described) -> str:
    architecture, dataset = _network(row)
    options = (f", {name} = {value}," for name, value in sorted(row["model_options"].items()))
    return f"{architecture}{''.join(options)} on {TITLES.get(dataset, dataset)}"


def _network(row: Described) -> tuple[str, str]:
    return row["architecture"], row["recipe"]["dataset"]


def _place(row: Described) -> tuple[object, ...]:
    """By data set, size of the network, method, then from the most to the fewest MACs."""
    macs = row["macs"]
    kind = (row["recipe"]["dataset"], macs["dense"], row["architecture"])
    return (*kind, method_of(row) or "", -macs["executed"], row["name"])


def method_of(row: Described) -> str | None:
    """The method that a description's network saves by; None for a dense one."""
    if row["gate"]:
        return row["gate"]["method"]
    return row["pruning"]["method"] if row.get("pruning") else None


def dense_of(row: Described, described: Mapping[str, Described]) -> Described | None:
    """The dense network that ``row`` came from or, if it began from scratch, is measured by."""
    here = row
    while method_of(here) and (start := here["recipe"]["start_from"]):
        if start not in described:
            return None
        here = described[start]
    if method_of(here) is None:
        return here
    same = (
        other
        for other in described.values()
        if method_of(other) is None
        and _network(other) == _network(row)
        and other["model_options"] == row["model_options"]
    )
    return next(same, None)


def lost(row: Described, described: Mapping[str, Described]) -> float | None:
    """Points of accuracy below its dense network."""
    dense = dense_of(row, described)
    return None if dense is None else 100 * (dense["test_accuracy"] - row["test_accuracy"])


def saved(row: Described) -> float:
    """Percent of the dense MACs that are not executed on average."""
    return 100 * (1 - row["macs"]["executed"] / row["macs"]["dense"])


def _reached(members: list[Described], described: Mapping[str, Described]) -> list[str]:
    return [
        "| checkpoint | method | accuracy | lost | of | dense MACs | executed MACs | "
        "5 % .. 95 %, most | saved | fewer | of them gates |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(_reached_row(row, described) for row in members),
    ]


def _reached_row(row: Described, described: Mapping[str, Described]) -> str:
    macs, dense = row["macs"], dense_of(row, described)
    points = lost(row, described)
    is_dense = method_of(row) is None
    cells = [
        row["name"],
        _setting(row),
        f"{row['test_accuracy']:.2%}",
        "" if is_dense else "not known" if points is None else f"{points:.2f}",
        "" if is_dense or dense is None else dense["name"],
        _millions(macs["dense"]),
        _millions(macs["executed"]) + _in_tiles(macs),
        _spread(macs),
        f"{saved(row):.1f} %",
        f"{macs['dense'] / macs['executed']:.2f}x",
        _millions(macs["gate"], 3) if macs["gate"] else "",
    ]
    return _row(cells)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _millions(count: int, digits: int = 2) -> str:
    return f"{count / 1e6:.{digits}f} M"


def _spread(macs: Mapping[str, Any]) -> str:
    if "executed_max" not in macs or macs["executed_min"] == macs["executed_max"]:
        return ""
    low, high, most = (f"{macs[f'executed_{key}'] / 1e6:.2f}" for key in ("p5", "p95", "max"))
    return f"{low} .. {high}, {most} M"


def _in_tiles(macs: Mapping[str, Any]) -> str:
    if "executed_in_tiles" not in macs:
        return ""
    rows, lanes = macs["tile"]
    return f"; {_millions(macs['executed_in_tiles'])} in tiles of {rows} x {lanes}"


def _setting(row: Described) -> str:
    """The method and the options that decide how much it saves."""
    method, recipe = method_of(row), row["recipe"]
    if method is None:
        return "dense"
    if row["gate"]:
        parts = [] if row["gate"]["density"] == 1.0 else [f"density {row['gate']['density']}"]
        parts += [f"{key} = {value}" for key, value in row["gate"]["options"].items()]
        if "target" in recipe.get("gate_training", {}):
            parts.append(f"target = {recipe['gate_training']['target']}")
        parts.append("on " + (", ".join(row["gate"]["layers"]) or "all layers"))
    else:
        goals = ("channels", "target_macs")
        options = recipe.get("prune_options", {})
        parts = [f"{key} = {options[key]}" for key in goals if options.get(key)]
    return ", ".join([METHODS.get(method, method), *parts])


# Published figures


def _published(members: list[Described], described: Mapping[str, Described]) -> list[str]:
    found = yardsticks(*_network(members[0]))
    if not found:
        return ["Nobody has published figures for this network that we know of."]
    return [
        "| published | accuracy | lost | saved | source | nearest here | accuracy | lost | saved | "
        "gap |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(_published_row(yardstick, members, described) for yardstick in found),
        "",
        "Gap: points that the network here loses more (+) or less (-) than the published one, and "
        "percent that it saves more (+) or less (-).",
    ]


def _published_row(
    yardstick: Yardstick, members: list[Described], described: Mapping[str, Described]
) -> str:
    from_to = ""
    if yardstick.dense is not None and yardstick.accuracy is not None:
        from_to = f"{yardstick.dense:.2f} to {yardstick.accuracy:.2f} %"
    cells = [
        METHODS.get(yardstick.method, yardstick.method),
        from_to,
        f"{yardstick.drop:.2f}",
        f"{yardstick.cut:.1f} %",
        f"{yardstick.source}, {KNOWN[yardstick.known]}",
    ]
    ours = nearest(yardstick, members)
    points = None if ours is None else lost(ours, described)
    if ours is None or points is None:
        return _row([*cells, "not trained", "", "", "", ""])
    gap = f"{points - yardstick.drop:+.2f} points, {saved(ours) - yardstick.cut:+.1f} %"
    reached = [f"{ours['test_accuracy']:.2%}", f"{points:.2f}", f"{saved(ours):.1f} %"]
    return _row([*cells, ours["name"], *reached, gap])


def nearest(yardstick: Yardstick, members: list[Described]) -> Described | None:
    """What to hold against a figure: by the same method if that is one of ours, else by any.

    The saving that is nearest to the published one, and of equal ones the most accurate.
    """
    candidates = [
        row
        for row in members
        if method_of(row) is not None
        and (method_of(row) == yardstick.method or yardstick.method not in METHODS)
    ]
    return min(
        candidates,
        key=lambda row: (round(abs(saved(row) - yardstick.cut)), -row["test_accuracy"]),
        default=None,
    )


# How, and what not


def _effort(rows: list[Described]) -> list[str]:
    return [
        "| checkpoint | starts from | teacher | epochs | hours | seed | precision | stored as | "
        "hardware | log |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *map(_effort_row, rows),
        "",
        "Repeat one: `headgate train NAME`; the name is the recipe's. A twin, `NAME-twin`: "
        "`headgate train NAME --frozen-twin`. Hours are of this run alone, "
        "wall-clock, on a machine that had other work to do as well.",
    ]


def _effort_row(row: Described) -> str:
    recipe, log = row["recipe"], row["log"].rpartition("/")[2]
    precision = "fp32" if recipe["precision"] == "no" else recipe["precision"]
    cells = [
        row["name"],
        recipe["start_from"] or "scratch",
        recipe["teacher"],
        str(row["epochs"]),
        f"{row['hours']:.2f}",
        str(row["seed"]),
        precision,
        "fp16" if row.get("weights") == "float16" else "fp32",
        row["hardware"],
        f"[{log}](logs/{log})",
    ]
    return _row(cells)


def _not_run(described: Mapping[str, Described]) -> list[str]:
    waiting = [load_recipe(name) for name in recipe_names() if name not in described]
    if not waiting:
        return ["None."]
    return [
        "| recipe | network | data set | method | why not | published |",
        "|---|---|---|---|---|---|",
        *(_waiting_row(recipe, described) for recipe in waiting),
    ]


def _waiting_row(recipe: Recipe, described: Mapping[str, Described]) -> str:
    title = TITLES.get(recipe.dataset, recipe.dataset)
    method = recipe.gate or recipe.prune
    published = [
        f"lost {row.drop:.2f}, saved {row.cut:.1f} % ({row.source})"
        for row in yardsticks(recipe.model, recipe.dataset)
        if row.method == method
    ]
    names = [recipe.name, recipe.model, title, METHODS.get(method, "dense")]
    return _row([*names, _reason(recipe, described), "; ".join(published)])


def _reason(recipe: Recipe, described: Mapping[str, Described]) -> str:
    if recipe.dataset != "cifar10":
        return f"{TITLES.get(recipe.dataset, recipe.dataset)} is not at hand"
    if recipe.quantize:
        return "calibration alone is close enough, see compile/README.md"
    known = [
        row
        for row in described.values()
        if method_of(row) is None and "process(es)" in row["hardware"] and row["hours"]
    ]
    if not known:
        return "no GPU at hand"
    slow = max(known, key=lambda row: row["macs"]["dense"])
    dense = dense_macs(recipe.model, tuple(recipe.model_options.items()))
    share = dense * recipe.epochs / (slow["macs"]["dense"] * slow["epochs"])
    hours = share * slow["hours"]
    return f"at least {hours:.{0 if hours >= 10 else 1}f} h, by the speed of {slow['name']}'s run"


@functools.cache
def dense_macs(model: str, options: tuple[tuple[str, Any], ...] = ()) -> int:
    """MACs per image of a network without gates, from shapes alone."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        module = create_model(model, **dict(options)).eval()
        module(torch.zeros(1, *input_shape(model)))
    return counter.get_total_flops() // 2
