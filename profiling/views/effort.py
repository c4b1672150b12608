"""What the page draws and says of the work per image: histograms, hardness, density."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from headgate.device.agent.absent import NotMeasured
from headgate.profiling import units
from headgate.profiling.charts.columns import column_chart
from headgate.profiling.charts.heatmap import Cell, heat_map
from headgate.profiling.effort import Effort, Hardness, LayerActivity


def effort_view(effort: Effort) -> dict[str, Any]:
    """What is drawn and said of one network, each empty where there is nothing to see."""
    hardness = effort.hardness
    return {
        "effort": effort,
        "verdict": _verdict(effort),
        "histogram": _histogram(effort),
        "by_hardness": "" if isinstance(hardness, NotMeasured) else _by_hardness(effort, hardness),
        "deciles": _deciles(effort),
    }


def _verdict(effort: Effort) -> str:
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
    edges, counts, macs = effort.edges, effort.counts, effort.macs
    if len(counts) < 2:
        return ""
    titles = [
        f"{count} images: {units.macs(low)} to {units.macs(high)} MACs"
        for count, low, high in zip(counts, edges, edges[1:], strict=False)
    ]
    return column_chart(
        counts,
        edges,
        "gated",
        f"Executed MACs of {effort.images} images by {effort.name}: from "
        f"{units.macs(macs.minimum)} to {units.macs(macs.maximum)}, mean {units.macs(macs.mean)}",
        titles,
        "executed MACs per image",
        "images",
        units.macs,
        lambda value: f"{value:.0f}",
        mark=macs.mean,
    )


def _by_hardness(effort: Effort, hardness: Hardness) -> Markup | str:
    means = hardness.macs_by_hardness
    if not means:
        return ""
    low, high = min(means), max(means)
    titles = [
        f"tenth {index + 1} of {len(means)}, {units.macs(mean)} MACs"
        for index, mean in enumerate(means)
    ]
    return column_chart(
        means,
        [index / len(means) for index in range(len(means) + 1)],
        "hardness",
        f"Mean executed MACs of {effort.name} from the easiest tenth of the images, "
        f"{units.macs(means[0])}, to the hardest, {units.macs(means[-1])}",
        titles,
        f"images by the dense network's {hardness.measure}, easiest first",
        "mean executed MACs (axis cut)",
        units.percent,
        units.macs,
        # Differences of a few percent are what this is about.
        floor=max(0.0, low - max(high - low, 0.01 * high)),
    )


def density(efforts: Sequence[Effort]) -> Markup | str:
    """Layers x networks."""
    layers = list(dict.fromkeys(layer.name for one in efforts for layer in one.layers))
    if not layers:
        return ""
    by_name = [(one.name, {layer.name: layer for layer in one.layers}) for one in efforts]
    cells = [[_cell(network, found.get(name)) for network, found in by_name] for name in layers]
    networks = [one.name for one in efforts]
    title = f"Mean share computed, {len(layers)} layers of {', '.join(networks)}"
    return heat_map(layers, networks, cells, title)


def _cell(network: str, layer: LayerActivity | None) -> Cell | None:
    if layer is None:
        return None
    active, channels = layer.active, layer.channels
    return Cell(
        active.mean / channels,
        f"{network}, {layer.name}: {active.mean:,.1f} of {channels:,} "
        f"({active.minimum:,.0f} to {active.maximum:,.0f})",
    )


def _deciles(effort: Effort) -> Markup | str:
    """Layers x tenths of the images."""
    layers = effort.layers
    if not any(layer.shares_by_cost for layer in layers):
        return ""
    count = len(layers[0].shares_by_cost)
    cells = [
        [
            Cell(share, f"{layer.name}, tenth {tenth}: {units.percent(share, 1)} computed")
            for tenth, share in enumerate(layer.shares_by_cost, 1)
        ]
        for layer in layers
    ]
    columns = ["cheapest", *(str(tenth) for tenth in range(2, count)), "dearest"]
    title = f"Share computed in each layer of {effort.name}, by tenths of the images"
    return heat_map([layer.name for layer in layers], columns, cells, title)
