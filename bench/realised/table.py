"""How much of the saved arithmetic became saved time, as the README's table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench import markdown
from headgate.device.agent.absent import is_measured
from headgate.profiling import units

HEADER = (
    "network",
    "variant",
    "runs in",
    "ms",
    "MACs",
    "least to most",
    "fewer",
    "faster",
    "realised",
)


def render(results: Mapping[str, Any]) -> str:
    """Markdown: one table over all networks, what its columns mean, and the machine."""
    networks = results["networks"]
    rows = [
        line
        for network, one in networks.items()
        for line in (_row(network, row, one["rows"]) for row in one["rows"])
    ]
    contexts = [one["context"] for one in networks.values()]
    timed = sorted({one["timed_images"] for one in networks.values()})
    notes = [
        f"Random weights, {' and '.join(map(str, timed))} images of CIFAR-10, which the thresholds "
        "were set on; MACs are the mean over them, executed, gates included. Fewer, faster and "
        "realised (time saved / MACs saved) are against the dense network in the same program. "
        "One thread, fp32, median over rounds in turn.",
        markdown.circumstances(contexts),
    ]
    absent = [name for one in networks.values() for name in one["missing"]]
    if absent:
        notes.append(f"Not measured: {'; '.join(absent)}.")
    return f"{markdown.table(HEADER, rows, texts=3)}\n\n{' '.join(notes)}\n"


def _row(network: str, row: Mapping[str, Any], rows: list[Mapping[str, Any]]) -> list[str]:
    macs = row["macs"]
    reference = next(
        (one for one in rows if one["program"] == row["program"] and one["method"] == "dense"), None
    )
    faster = row["speedup"]["median"] / reference["speedup"]["median"] if reference else None
    fixed = macs["minimum"] == macs["maximum"]
    spread = "" if fixed else f"{units.macs(macs['minimum'])} to {units.macs(macs['maximum'])}"
    return [
        network,
        row["checkpoint"],
        row["program"],
        units.three_digits(markdown.median(row["latency_us"]) / 1000),
        units.macs(macs["mean"]),
        spread,
        units.times(row["fewer"]),
        units.times(faster) if faster else "",
        f"**{row['realised']:.2f}**" if is_measured(row["realised"]) else "",
    ]
