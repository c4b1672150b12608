"""A page's tables as CSV; an empty field is a value that was not measured."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.energy import Energy
from headgate.device.agent.firmware import total_bytes
from headgate.device.agent.latency import Latency
from headgate.profiling.comparison import Comparison
from headgate.profiling.data import Page
from headgate.profiling.effort import GROUPS
from headgate.profiling.machines import Entry, boards_of
from headgate.profiling.missing import figure

Line = Sequence[Any] | Mapping[str, Any]
# A column of the first table: where it lies in a standing, and in an entry.
_RUN = {
    "machine": ("", ""),
    "network": ("name", "name"),
    "kind": ("kind", "kind"),
    "timed": ("", ""),
    "threads": ("", "threads"),
    "valid": ("", "report.valid"),
    "invalid_because": ("", ""),
    "taken_utc": ("", "report.context.before.taken_utc"),
    "runs": ("latency_us.count", "latency_us.count"),
    "median_us": ("latency_us.middle.value", "latency_us.middle.value"),
    "low_us": ("latency_us.middle.low", "latency_us.middle.low"),
    "high_us": ("latency_us.middle.high", "latency_us.middle.high"),
    "p90_us": ("latency_us.percentiles.p90.value", "latency_us.percentiles.p90.value"),
    "p95_us": ("latency_us.percentiles.p95.value", "latency_us.percentiles.p95.value"),
    "p99_us": ("latency_us.percentiles.p99.value", "latency_us.percentiles.p99.value"),
    "count_unit": ("", "firmware.unit"),
    "median_count": ("", "firmware.count"),
    "fewer": ("", "fewer"),
    "flash_bytes": ("", ""),
    "ram_bytes": ("", ""),
    "speedup": ("speedup.median", "speedup.median"),
    "dense_macs": ("dense_macs", "dense_macs"),
    "executed_macs": ("executed_macs", "executed_macs"),
    "arithmetic_speedup": ("arithmetic_speedup", ""),
    "macs_saved": ("macs_saved", "macs_saved"),
    "time_saved": ("time_saved", ""),
    "realised": ("realised.median", "realised"),
    "accuracy": ("accuracy", ""),
    "top1_agreement": ("top1_agreement", ""),
    "sensor": ("", "energy.sensor"),
    "scope": ("", "energy.scope"),
    "idle_mw": ("", "energy.idle.average_power_mw"),
    "power_mw": ("", "energy.average_power_mw"),
    "energy_mj": ("", "energy.energy_per_inference_mj"),
    "net_energy_mj": ("", "energy.net_energy_per_inference_mj"),
    "energy_delay_mj_ms": ("", "energy.energy_delay_mj_ms"),
    "energy_ratio": ("", "energy_ratio.median"),
    "outputs_passed": ("", "report.outputs.passed"),
    "max_error": ("", "report.outputs.max_error"),
    "bundle_sha256": ("sha256", "report.bundle.sha256"),
    "model_sha256": ("", "report.bundle.model_sha256"),
    "dtype": ("dtype", "report.bundle.dtype"),
}
_OF_STANDING, _OF_ENTRY = (
    {column: paths[side] for column, paths in _RUN.items() if paths[side]} for side in (0, 1)
)
_LAYER = (
    "machine,network,kind,threads,layer,operator,is_gate,input,median_us,dense_macs,executed_macs,"
    "channels,active_inputs,active_outputs,median_count"
)
_WINDOW = (
    "machine,network,kind,sample,start_s,end_s,inferences,latency_ms,energy_mj,average_power_mw,"
    "energy_per_inference_mj,net_energy_per_inference_mj,energy_delay_mj_ms,cpu_share,samples,"
    "gaps,gap_s"
)
_METHOD = (
    "name,network,method,program,accuracy,accuracy_images,dense_macs,counted_macs,mean_macs,"
    "p95_macs,max_macs,fewer,median_us,low_us,high_us,speedup,realised,weights_bytes,file_bytes"
)
# Where columns lie that a row of the table of methods has under another name.
_OF_METHOD = {
    "median_us": "latency_us.middle.value",
    "low_us": "latency_us.middle.low",
    "high_us": "latency_us.middle.high",
    "speedup": "speedup.median",
    "mean_macs": "macs.mean",
    "p95_macs": "macs.p95",
    "max_macs": "macs.maximum",
}


def csv_tables(page: Page) -> dict[str, str]:
    """By what is added to the report's name; all but the first two only if they have lines."""
    entries = [(board.title, one) for board in boards_of(page.reports) for one in board.entries]
    runs = [*_in_turn(page.comparison), *(_alone(*one) for one in entries)]
    tables = {
        "": render_csv(",".join(_RUN), runs),
        "-layers": render_csv(_LAYER, [line for one in entries for line in _layers(*one)]),
    }
    powered = [
        (entry.energy, {"machine": title, "network": entry.name, "kind": entry.kind})
        for title, entry in entries
        if isinstance(entry.energy, Energy)
    ]
    if powered:
        windows = [about | vars(one) for energy, about in powered for one in energy.windows]
        trace = [[*about.values(), *point] for energy, about in powered for point in energy.trace]
        tables["-windows"] = render_csv(_WINDOW, windows)
        tables["-trace"] = render_csv("machine,network,kind,time_s,power_mw", trace)
    if page.efforts:
        tables |= {"-macs": _macs(page), "-density": _density(page)}
    if page.methods:
        methods = [vars(row) | _values(row, _OF_METHOD) for row in page.methods]
        tables["-methods"] = render_csv(_METHOD, methods)
    return tables


def _values(about: Any, paths: Mapping[str, str]) -> dict[str, Any]:
    return {column: figure(about, path) for column, path in paths.items()}


def _in_turn(comparison: Comparison | None) -> Iterable[Line]:
    if comparison is None:
        return
    known = {"machine": comparison.machine, "timed": "in turn", "threads": 1}
    known["taken_utc"] = comparison.context.taken_utc
    for one in comparison.standings:
        yield known | _values(one, _OF_STANDING)


def _alone(title: str, entry: Entry) -> Line:
    why = "; ".join(entry.report.invalid_because)
    known: dict[str, Any] = {"machine": title, "timed": "alone", "invalid_because": why}
    known |= {
        f"{memory}_bytes": total_bytes(figure(entry.firmware, f"{memory}_bytes"))
        for memory in ("flash", "ram")
    }
    return known | _values(entry, _OF_ENTRY)


def _layers(title: str, entry: Entry) -> Iterable[Line]:
    """One line per layer and input."""
    if not isinstance(entry.latency, Latency):
        return
    counts = figure(entry.firmware, "layer_counts")
    each = [None] * len(entry.latency.layers) if isinstance(counts, NotMeasured) else counts
    for layer, count in zip(entry.latency.layers, each, strict=True):
        for index in range(entry.latency.inputs):
            per_input = (layer.median_us_per_input, layer.executed_macs)
            times, macs = (one[index] if isinstance(one, list) else None for one in per_input)
            sides = (layer.active_inputs, layer.active_outputs)
            active = [None if one is None else one[index] for one in sides]
            yield [
                *(title, entry.name, entry.kind, entry.threads),
                *(layer.name, layer.operator, layer.is_gate, index, times),
                *(layer.dense_macs, macs, layer.channels, *active, count),
            ]


def _macs(page: Page) -> str:
    """The histogram of executed MACs of every dynamic network."""
    rows = [
        [one.name, low, high, count]
        for one in page.efforts
        for low, high, count in zip(one.edges[:-1], one.edges[1:], one.counts, strict=True)
    ]
    return render_csv("network,from_macs,to_macs,images", rows)


def _density(page: Page) -> str:
    """A line per gated layer of every dynamic network; tenths are shares of all channels."""
    tenths = [f"tenth_{index}" for index in range(1, GROUPS + 1)]
    header = ",".join(["network,layer,gate,channels,min,mean,p95,max", *tenths])
    rows = []
    for one in page.efforts:
        for layer in one.layers:
            active = layer.active
            shares: Sequence[float | None] = layer.shares_by_cost or [None] * GROUPS
            ends = (active.minimum, active.mean, active.p95, active.maximum)
            rows.append([one.name, layer.name, layer.gate, layer.channels, *ends, *shares])
    return render_csv(header, rows)


def render_csv(header: str, rows: Iterable[Line]) -> str:
    """A table under its header; a value that is missing, or was not measured, is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    text.write(f"{header}\n")
    for row in rows:
        values = [row.get(key) for key in header.split(",")] if isinstance(row, Mapping) else row
        absent = (NotMeasured, type(None))
        writer.writerow("" if isinstance(value, absent) else value for value in values)
    return text.getvalue()
