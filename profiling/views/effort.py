"""What the page shows of the work per image: histograms, hardness, density, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from headgate.device.agent.absent import NotMeasured
from headgate.profiling import charts, units
from headgate.profiling.effort import Effort, Hardness, LayerActivity
from headgate.profiling.gallery import Example
from headgate.profiling.views.cells import cell


def effort_sections(efforts: Sequence[Effort]) -> dict[str, Any]:
    """Views of every dynamic network; empty lists where there is none."""
    return {
        "efforts": [_effort(one) for one in efforts],
        "density": _density(efforts),
        "deciles": [_deciles(one) for one in efforts if _has_deciles(one)],
        "galleries": [_gallery(one) for one in efforts if one.cheapest],
    }


def _effort(effort: Effort) -> dict[str, Any]:
    macs = effort.macs
    hardness = effort.hardness
    if isinstance(hardness, NotMeasured):
        loss: float | NotMeasured = hardness
        confidence, by_hardness, reason = loss, Markup(""), hardness.reason
    else:
        loss, confidence = hardness.loss_correlation, hardness.confidence_correlation
        by_hardness, reason = _by_hardness(effort.name, hardness), ""
    return {
        "name": effort.name,
        "images": f"{effort.images:,}",
        "mean": units.macs(macs.mean),
        "minimum": units.macs(macs.minimum),
        "p95": units.macs(macs.p95),
        "maximum": units.macs(macs.maximum),
        "of_dense": units.percent(macs.mean / effort.dense_macs),
        "worst_of_dense": units.percent(macs.maximum / effort.dense_macs),
        "right": cell(effort.macs_if_right, units.macs),
        "wrong": cell(effort.macs_if_wrong, units.macs),
        "loss": cell(loss, _correlation),
        "confidence": cell(confidence, _correlation),
        "histogram": _histogram(effort),
        "by_hardness": by_hardness,
        "reason": reason,
        "verdict": _verdict(effort),
    }


def _correlation(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def _verdict(effort: Effort) -> str:
    """One sentence on whether harder images cost more."""
    macs = effort.macs
    if macs.minimum == macs.maximum:
        return f"Every image costs {units.macs(macs.mean)}: the gates choose which, not how many."
    hardness = effort.hardness
    if isinstance(hardness, NotMeasured) or not hardness.macs_by_hardness:
        return ""
    easiest, hardest = hardness.macs_by_hardness[0], hardness.macs_by_hardness[-1]
    change = hardest / easiest - 1
    if abs(change) < 0.005:
        return "Hard images cost as much as easy ones."
    word = "more" if change > 0 else "less"
    return (
        f"The tenth of the images that the dense network finds hardest costs "
        f"{units.percent(abs(change), 1)} {word} than the easiest."
    )


def _histogram(effort: Effort) -> Markup | str:
    edges, counts = effort.edges, effort.counts
    if len(counts) < 2:
        return ""
    titles = [
        f"{count} images: {units.macs(low)} to {units.macs(high)} MACs"
        for count, low, high in zip(counts, edges, edges[1:], strict=False)
    ]
    macs = effort.macs
    return charts.column_chart(
        counts,
        edges,
        "gated",
        f"Executed MACs of {effort.images} images by {effort.name}: from "
        f"{units.macs(macs.minimum)} to {units.macs(macs.maximum)}, "
        f"mean {units.macs(macs.mean)}",
        titles,
        "executed MACs per image",
        "images",
        units.macs,
        lambda value: f"{value:.0f}",
        mark=macs.mean,
    )


def _by_hardness(name: str, hardness: Hardness) -> Markup:
    means = hardness.macs_by_hardness
    if not means:
        return Markup("")
    low, high = min(means), max(means)
    titles = [
        f"tenth {index + 1} of {len(means)}, {units.macs(mean)} MACs"
        for index, mean in enumerate(means)
    ]
    return charts.column_chart(
        means,
        [index / len(means) for index in range(len(means) + 1)],
        "hardness",
        f"Mean executed MACs of {name} from the easiest tenth of the images, "
        f"{units.macs(means[0])}, to the hardest, {units.macs(means[-1])}",
        titles,
        f"images by the dense network's {hardness.measure}, easiest first",
        "mean executed MACs (axis cut)",
        units.percent,
        units.macs,
        # Differences of a few percent are what this is about.
        floor=max(0.0, low - max(high - low, 0.01 * high)),
    )


def _density(efforts: Sequence[Effort]) -> dict[str, Any] | None:
    """Layers x networks."""
    if not efforts:
        return None
    layers = list(dict.fromkeys(layer.name for one in efforts for layer in one.layers))
    if not layers:
        return None
    columns = []
    for one in efforts:
        by_name = {layer.name: layer for layer in one.layers}
        columns.append([_cell(one.name, by_name.get(name)) for name in layers])
    cells = [[column[row] for column in columns] for row in range(len(layers))]
    names = [one.name for one in efforts]
    title = f"Mean share computed, {len(layers)} layers of {', '.join(names)}"
    return {
        "drawing": charts.heat_map(layers, names, cells, title),
        "rows": [
            {
                "network": one.name,
                "layer": layer.name,
                "channels": f"{layer.channels:,}",
                **{
                    key: f"{getattr(layer.active, key):,.4g}"
                    if getattr(layer.active, key) < 1000
                    else f"{getattr(layer.active, key):,.0f}"
                    for key in ("minimum", "mean", "p95", "maximum")
                },
            }
            for one in efforts
            for layer in one.layers
        ],
    }


def _cell(network: str, layer: LayerActivity | None) -> charts.Cell | None:
    if layer is None:
        return None
    active, channels = layer.active, layer.channels
    return charts.Cell(
        active.mean / channels,
        f"{network}, {layer.name}: {active.mean:,.1f} of {channels:,} "
        f"({active.minimum:,.0f} to {active.maximum:,.0f})",
    )


def _has_deciles(effort: Effort) -> bool:
    return any(layer.shares_by_cost for layer in effort.layers)


def _deciles(effort: Effort) -> dict[str, Any]:
    """Layers x tenths of the images."""
    layers = effort.layers
    count = len(layers[0].shares_by_cost)
    cells = [
        [
            charts.Cell(
                share, f"{layer.name}, tenth {index + 1}: {units.percent(share, 1)} computed"
            )
            for index, share in enumerate(layer.shares_by_cost)
        ]
        for layer in layers
    ]
    columns = ["cheapest", *(str(index) for index in range(2, count)), "dearest"]
    title = f"Share computed in each layer of {effort.name}, by tenths of the images"
    names = [layer.name for layer in layers]
    return {"name": effort.name, "drawing": charts.heat_map(names, columns, cells, title)}


def _gallery(effort: Effort) -> dict[str, Any]:
    return {
        "name": effort.name,
        "rows": [
            ("Cheapest", [_example(one) for one in effort.cheapest]),
            ("Dearest", [_example(one) for one in effort.dearest]),
        ],
    }


def _example(example: Example) -> dict[str, Any]:
    known = example.label is not None
    right = known and example.label == example.predicted
    what = example.label if known else "class not known"
    return {
        "picture": example.picture,
        "label": what,
        "predicted": "" if right else f"taken for {example.predicted}",
        "macs": units.macs(example.macs),
        "alternative": f"image {example.index}, {what}, predicted {example.predicted}, "
        f"{example.macs:,} MACs",
    }
