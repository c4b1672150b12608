"""The benchmark's results as the Markdown tables of the README."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.markdown import circumstances, median, table
from headgate.device.agent.absent import is_measured
from headgate.profiling import units
from headgate.profiling.peers import PEERS

_PARTS = ("bundle", "weights", "arena")


def headline(results: Mapping[str, Any]) -> str:
    """Markdown: the latencies in int8, the first table of the README."""
    return _of_type(results, "int8") + "\n"


def render(results: Mapping[str, Any], *, headline: bool = True) -> str:
    """Markdown: latencies by data type, instruction counts, and the machine they come from.

    ``headline``: with what :func:`headline` has.
    """
    networks = results["networks"]
    dtypes = sorted({*map(_dtype, networks.values())}, reverse=True)
    parts = [_of_type(results, dtype) for dtype in dtypes if headline or dtype != "int8"]
    parts += [_sizes(networks), _instructions(networks), _circumstances(networks)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _of_type(results: Mapping[str, Any], dtype: str) -> str:
    networks = results["networks"]
    chosen = {name: one for name, one in networks.items() if _dtype(one) == dtype}
    return _latencies(chosen, dtype, results["density"])


def _dtype(result: Mapping[str, Any]) -> str:
    """Of one network's results; those measured before there was another type do not say."""
    return str(result.get("dtype", "float32"))


def _latencies(networks: Mapping[str, Any], dtype: str, density: float) -> str:
    """A line per network; what a column is against is the fastest peer of that line."""
    timed = {
        name: {one["name"]: one for one in result["comparison"]["standings"]}
        for name, result in networks.items()
    }
    titles = [peer.title for peer in PEERS.values()]
    titles = [title for title in titles if any(title in one for one in timed.values())]
    header = [f"{dtype}, ms", *titles, "headgate dense", "/ best peer"]
    header += [f"FBS {density}", "/ best peer", "speed-up", "MACs", "arithmetic", "realised"]
    rows = []
    for name, standings in timed.items():
        dense, gated = standings[name], standings[f"{name}-fbs-{density}"]
        peers = [standings[title] for title in titles if title in standings]
        # Speed-ups are against the dense bundle: how many times as long as the peer that takes.
        best = max((peer["speedup"]["median"] for peer in peers), default=None)
        speedup, realised = gated["speedup"]["median"], gated["realised"]
        rows.append(
            [
                name.removesuffix(f"-{dtype}"),
                *(_milliseconds(standings.get(title)) for title in titles),
                f"**{_milliseconds(dense)}**",
                "" if best is None else units.times(best),
                f"**{_milliseconds(gated)}**",
                "" if best is None else f"**{units.times(best / speedup)}**",
                units.times(speedup),
                f"{units.macs(dense['executed_macs'])} to {units.macs(gated['executed_macs'])}",
                units.times(gated["arithmetic_speedup"]),
                f"**{realised['median']:.2f}**" if is_measured(realised) else "",
            ]
        )
    return table(header, rows)


def _sizes(networks: Mapping[str, Any]) -> str:
    """Bytes in int8 beside those in float32, of the bundles whose sizes are known in both."""
    known = {name: size for one in networks.values() for name, size in one.get("sizes", {}).items()}
    rows = []
    for name, result in networks.items():
        if _dtype(result) == "float32":
            continue
        network = name.removesuffix(f"-{_dtype(result)}")
        for own, size in result.get("sizes", {}).items():
            plain = network + own.removeprefix(name)
            if plain in known:
                cells = (_shrunk(known[plain][part], size[part]) for part in _PARTS)
                rows.append([plain, *cells])
    return table(["float32 to int8, kB", *_PARTS], rows) if rows else ""


def _shrunk(before: int, after: int) -> str:
    return f"{before / 1000:,.0f} to {after / 1000:,.0f}, {units.times(after / before)}"


def _instructions(networks: Mapping[str, Any]) -> str:
    rows = []
    for result in networks.values():
        counts = {
            name: count for name, count in result["instructions"].items() if is_measured(count)
        }
        most: dict[str, int] = {}
        for count in counts.values():
            most[count["machine"]] = max(most.get(count["machine"], 0), count["instructions"])
        for name, count in counts.items():
            rows.append(
                [
                    name.partition(" on ")[0],
                    count["machine"].removeprefix("qemu:"),
                    units.instructions(count["instructions"]),
                    units.macs(count["executed_macs"]),
                    f"{count['instructions'] / count['executed_macs']:.3f}",
                    units.times(most[count["machine"]] / count["instructions"]),
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


def _circumstances(networks: Mapping[str, Any]) -> str:
    by_cpu: dict[str, dict[str, Any]] = {}
    for name, result in networks.items():
        context = result["comparison"]["context"]
        by_cpu.setdefault(str(context["cpu"]), {})[name] = context
    lines = [
        ("" if len(by_cpu) == 1 else f"{', '.join(contexts)}: ")
        + circumstances(list(contexts.values()))
        for contexts in by_cpu.values()
    ]
    lines.append(
        "One thread, batch 1, median over rounds in turn; in int8 all with the same weights and "
        "calibration images. Speed-up, arithmetic and realised are against dense in headgate. "
        "Instructions are counted under QEMU and are not a time."
    )
    missing = {title for result in networks.values() for title in result["missing_peers"]}
    if missing:
        lines.append(f"Not measured, because not installed: {', '.join(sorted(missing))}.")
    return " ".join(lines)


def _milliseconds(standing: Mapping[str, Any] | None) -> str:
    return units.three_digits(median(standing["latency_us"]) / 1000) if standing else ""
