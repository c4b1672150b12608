"""The benchmark's results as the Markdown tables of the README."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.markdown import circumstances, median, table
from bench.speed.machine import AMX_REFUSED
from headgate.device.agent.absent import is_measured
from headgate.profiling import units
from headgate.profiling.peers import PEERS

_PARTS = ("bundle", "weights", "arena")


def headline(results: Mapping[str, Any]) -> str:
    """Markdown: the latencies in int8, the first tables of the README."""
    return "\n\n".join(_of_type(results, "int8")) + "\n"


def render(results: Mapping[str, Any], *, headline: bool = True) -> str:
    """Markdown: latencies by data type and machine, sizes, instruction counts, the machines.

    ``headline``: with what :func:`headline` has.
    """
    machines = results["machines"]
    networks = _newest(machines)
    dtypes = sorted({*map(_dtype, networks.values())}, reverse=True)
    parts = []
    for dtype in dtypes:
        if headline or dtype != "int8":
            parts += _of_type(results, dtype)
    parts += [_sizes(networks), _instructions(networks), _circumstances(machines)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _newest(machines: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Of each network the newest results: sizes and counts are the same on every machine."""
    found: dict[str, Any] = {}
    for networks in machines.values():
        for name, result in networks.items():
            if name not in found or _taken(result) > _taken(found[name]):
                found[name] = result
    return found


def _taken(result: Mapping[str, Any]) -> str:
    return str(result["comparison"]["context"]["taken_utc"])


def _of_type(results: Mapping[str, Any], dtype: str) -> list[str]:
    """A table for each machine, below its name where there are several."""
    parts = []
    for machine, networks in results["machines"].items():
        chosen = {name: one for name, one in networks.items() if _dtype(one) == dtype}
        if chosen:
            if len(results["machines"]) > 1:
                parts.append(f"{machine}:")
            parts.append(_latencies(chosen, dtype, results["density"]))
    return parts


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


def _circumstances(machines: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        circumstances([result["comparison"]["context"] for result in networks.values()])
        for networks in machines.values()
    ]
    lines.append(
        "One thread, batch 1, median over rounds in turn; in int8 all with the same weights and "
        "calibration images. Speed-up, arithmetic and realised are against dense in headgate. "
        "Instructions are counted under QEMU and are not a time."
    )
    missing = {
        title
        for networks in machines.values()
        for result in networks.values()
        for title in result["missing_peers"]
    }
    if any("AMX" in machine for machine in machines):
        lines.append(
            "LiteRT and ONNX Runtime use AMX, a matrix unit of servers, where they get it; "
            "headgate does not."
        )
    if any(AMX_REFUSED in machine for machine in machines):
        lines.append(
            f"{AMX_REFUSED}: the same machine lends its matrix unit to "
            "none of them (`python -m bench.speed.without_amx make bench ONLY=int8`)."
        )
    if missing:
        lines.append(f"Not measured, because not installed: {', '.join(sorted(missing))}.")
    return " ".join(lines)


def _milliseconds(standing: Mapping[str, Any] | None) -> str:
    return units.three_digits(median(standing["latency_us"]) / 1000) if standing else ""
