"""The benchmark's results as the Markdown tables of the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.markdown import circumstances, median, table
from headgate.device.agent.absent import is_measured
from headgate.profiling import units
from headgate.profiling.peers import PEERS


def render(results: Mapping[str, Any]) -> str:
    """Markdown: latencies, instruction counts, and the machine they come from."""
    networks = results["networks"]
    parts = [_latencies(networks, results["density"]), _instructions(networks)]
    contexts = [one["comparison"]["context"] for one in networks.values()]
    parts.append(_circumstances(contexts, networks))
    return "\n\n".join(part for part in parts if part) + "\n"


def _latencies(networks: Mapping[str, Any], density: float) -> str:
    header = ["ms", *(peer.title for peer in PEERS.values()), "headgate dense", "/ LiteRT"]
    header += [f"FBS {density}", "speed-up", "MACs", "arithmetic", "realised"]
    rows = []
    for name, result in networks.items():
        standings = {one["name"]: one for one in result["comparison"]["standings"]}
        dense = standings[name]
        gated = standings[f"{name}-fbs-{density}"]
        litert = standings.get(PEERS["litert"].title)
        realised = gated["realised"]
        rows.append(
            [
                name,
                *(_milliseconds(standings.get(peer.title)) for peer in PEERS.values()),
                f"**{_milliseconds(dense)}**",
                units.times(litert["speedup"]["median"]) if litert else "",  # dense time / its time
                f"**{_milliseconds(gated)}**",
                units.times(gated["speedup"]["median"]),
                f"{units.macs(dense['executed_macs'])} to {units.macs(gated['executed_macs'])}",
                units.times(gated["arithmetic_speedup"]),
                f"**{realised['median']:.2f}**" if is_measured(realised) else "",
            ]
        )
    return table(header, rows)


def _instructions(networks: Mapping[str, Any]) -> str:
    rows = []
    for result in networks.values():
        counts = {
            name: count for name, count in result["instructions"].items() if is_measured(count)
        }
        most = max((count["instructions"] for count in counts.values()), default=0)
        for name, count in counts.items():
            rows.append(
                [
                    name,
                    count["machine"].removeprefix("qemu:"),
                    units.instructions(count["instructions"]),
                    units.macs(count["executed_macs"]),
                    f"{count['instructions'] / count['executed_macs']:.3f}",
                    units.times(most / count["instructions"]),
                ]
            )
    header = [
        "executed instructions",
        "target",
        "per inference",
        "executed MACs",
        "per MAC",
        "fewer",
    ]
    return table(header, rows) if rows else ""


def _circumstances(contexts: Sequence[Mapping[str, Any]], networks: Mapping[str, Any]) -> str:
    lines = [
        f"{circumstances(contexts)} One thread, fp32, batch 1, median over rounds in turn. "
        "Instructions are counted under QEMU and are not a time."
    ]
    missing = {title for result in networks.values() for title in result["missing_peers"]}
    if missing:
        lines.append(f"Not measured, because not installed: {', '.join(sorted(missing))}.")
    return " ".join(lines)


def _milliseconds(standing: Mapping[str, Any] | None) -> str:
    return units.three_digits(median(standing["latency_us"]) / 1000) if standing else ""
