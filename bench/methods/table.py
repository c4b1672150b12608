"""The comparison of methods as the README's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench import markdown
from bench.methods.networks import HEADGATE, HEADGATE_INT8
from bench.speed.machine import AMX_REFUSED
from headgate.device.agent.absent import is_measured
from headgate.profiling import units
from headgate.profiling.method_row import counts_differ
from headgate.profiling.views.plots import METHOD_NAMES

HEADER = (
    "network",
    "method",
    "runs in",
    "accuracy",
    "MACs",
    "fewer",
    "p95, most",
    "µs (95 % interval)",
    "speed-up",
    "realised",
    "weights",
)


WHOLE = 10_000  # images in CIFAR-10's test set


def render(results: Mapping[str, Any]) -> str:
    """Markdown: one table over all networks, what its columns mean, and the machine."""
    networks = results["networks"]
    rows = [_row(row) for one in networks.values() for row in one["rows"]]
    parts = [markdown.table(HEADER, rows, texts=3), _notes(networks)]
    return "\n\n".join(parts) + "\n"


def _row(row: Mapping[str, Any]) -> list[str]:
    macs, middle = row["macs"], row["latency_us"]["percentiles"]["p50"]
    fixed = macs["minimum"] == macs["maximum"]
    speedup = units.times(row["speedup"]["median"])
    return [
        row["checkpoint"],
        METHOD_NAMES.get(row["method"], row["method"]),
        row["program"],
        units.percent(row["accuracy"], 2) + ("" if row["accuracy_images"] == WHOLE else " *"),
        _macs(row),
        units.times(row["fewer"]),
        "same" if fixed else f"{units.macs(macs['p95'])}, {units.macs(macs['maximum'])}",
        f"{_us(middle['value'])} ({_us(middle['low'])} to {_us(middle['high'])})",
        f"**{speedup}**" if row["program"] in (HEADGATE, HEADGATE_INT8) else speedup,
        f"{row['realised']:.2f}" if is_measured(row["realised"]) else "",
        f"{row['weights_bytes'] / 1000:.0f} kB",
    ]


def _macs(row: Mapping[str, Any]) -> str:
    """As executed, and beside it as papers count where that is another number."""
    mean, counted = row["macs"]["mean"], row["counted_macs"]
    also = f" ({units.macs(counted)} by pixel)" if counts_differ(mean, counted) else ""
    return f"{units.macs(mean)}{also}"


def _us(value: float) -> str:
    return f"{value:.1f}"


def _notes(networks: Mapping[str, Any]) -> str:
    contexts = [one["context"] for one in networks.values()]
    counted = sorted({one["counted_images"] for one in networks.values()})
    timed = sorted({one["timed_images"] for one in networks.values()})
    lines = [
        f"Accuracy on the {WHOLE:,} test images of CIFAR-10, of int8 and of peers measured with "
        "that very program. MACs executed per image, gates included, mean of "
        f"{_numbers(counted)} images, with the 95th percentile and the most for one image. "
        "Speed-up against the dense network in headgate; realised: time saved / MACs saved "
        "against the dense network in the same program and data type. "
        f"{_numbers(timed)} images in turn, one thread.",
        markdown.circumstances(contexts),
    ]
    if any(AMX_REFUSED in one["cpu"] for one in contexts):
        lines.append("Made by `python -m bench.speed.without_amx make comparison`.")
    if any("by pixel" in _macs(row) for one in networks.values() for row in one["rows"]):
        lines.insert(1, "By pixel: as papers count, where kernels compute whole tiles.")
    few = sorted(
        {row["accuracy_images"] for one in networks.values() for row in one["rows"]} - {WHOLE}
    )
    if few:
        lines.insert(1, f"* on {_numbers(few)} test images only.")
    absent = [name for one in networks.values() for name in one["missing"]]
    if absent:
        lines.append(f"Not measured: {', '.join(absent)}.")
    return " ".join(lines)


def _numbers(values: Sequence[int]) -> str:
    return " and ".join(f"{value:,}" for value in values)
