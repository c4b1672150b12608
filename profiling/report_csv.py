"""A page's tables as CSV; an empty field is a value that was not measured."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.check import Check
from headgate.device.agent.energy import Energy
from headgate.device.agent.latency import Latency
from headgate.device.agent.percentiles import Summary
from headgate.profiling.comparison import Comparison, Standing
from headgate.profiling.data import Page
from headgate.profiling.effort import GROUPS
from headgate.profiling.machines import Entry, boards_of
from headgate.profiling.statistics import Ratio

Line = Sequence[Any] | Mapping[str, Any]
_RUN = (
    "machine,network,kind,timed,threads,valid,invalid_because,taken_utc,runs,median_us,low_us,"
    "high_us,p90_us,p95_us,p99_us,speedup,dense_macs,executed_macs,arithmetic_speedup,macs_saved,"
    "time_saved,realised,accuracy,top1_agreement,sensor,scope,idle_mw,power_mw,energy_mj,"
    "net_energy_mj,energy_delay_mj_ms,energy_ratio,outputs_passed,max_error,bundle_sha256,"
    "model_sha256"
)
_LAYER = (
    "machine,network,kind,threads,layer,operator,is_gate,input,median_us,dense_macs,executed_macs,"
    "channels,active_inputs,active_outputs"
)
_WINDOW = (
    "sample,start_s,end_s,inferences,latency_ms,energy_mj,average_power_mw,"
    "energy_per_inference_mj,net_energy_per_inference_mj,energy_delay_mj_ms,cpu_share,samples,"
    "gaps,gap_s"
)
_METHOD = (
    "name,network,method,program,accuracy,accuracy_images,dense_macs,counted_macs,mean_macs,"
    "p95_macs,max_macs,fewer,median_us,low_us,high_us,speedup,realised,weights_bytes,file_bytes"
)


def csv_tables(page: Page) -> dict[str, str]:
    """The tables by what is added to the report's name; each only if it has lines, but the first
    two."""
    entries = [(board.title, one) for board in boards_of(page.reports) for one in board.entries]
    runs = [_standing(one, page.comparison) for one in _standings(page.comparison)]
    runs += [_run(title, entry) for title, entry in entries]
    tables = {
        "": render_csv(_RUN, runs),
        "-layers": render_csv(_LAYER, _each(entries, _layers)),
    }
    if any(isinstance(entry.energy, Energy) for _, entry in entries):
        tables["-windows"] = render_csv(f"machine,network,kind,{_WINDOW}", _each(entries, _windows))
        header = "machine,network,kind,time_s,power_mw"
        tables["-trace"] = render_csv(header, _each(entries, _trace))
    if page.efforts:
        tables |= {"-macs": _macs(page), "-density": _density(page)}
    if page.methods:
        tables["-methods"] = _methods(page)
    return tables


def _standings(comparison: Comparison | None) -> Sequence[Standing]:
    return comparison.standings if comparison else ()


def _standing(one: Standing, comparison: Comparison | None) -> dict[str, Any]:
    """A program that was timed in turn with others."""
    assert comparison is not None
    return {
        "machine": comparison.machine,
        "network": one.name,
        "kind": one.kind,
        "timed": "in turn",
        "threads": 1,
        "taken_utc": comparison.context.taken_utc,
        **_times(one.latency_us),
        "speedup": one.speedup.median,
        "dense_macs": one.dense_macs,
        "executed_macs": one.executed_macs,
        "arithmetic_speedup": one.arithmetic_speedup,
        "macs_saved": one.macs_saved,
        "time_saved": one.time_saved,
        "realised": one.realised.median if isinstance(one.realised, Ratio) else None,
        "accuracy": one.accuracy,
        "top1_agreement": one.top1_agreement,
        "bundle_sha256": one.sha256,
    }


def _run(title: str, entry: Entry) -> dict[str, Any]:
    """A network that was measured by itself."""
    report, speedup, ratio = entry.report, entry.speedup, entry.energy_ratio
    line = {
        "machine": title,
        "network": entry.name,
        "kind": entry.kind,
        "timed": "alone",
        "threads": entry.threads,
        "valid": report.valid,
        "invalid_because": "; ".join(report.invalid_because),
        "taken_utc": report.context.before.taken_utc,
        **_times(entry.latency_us),
        "speedup": speedup.median if isinstance(speedup, Ratio) else None,
        "dense_macs": entry.dense_macs,
        "executed_macs": entry.executed_macs,
        "macs_saved": entry.macs_saved,
        "realised": entry.realised,
        "energy_ratio": ratio.median if isinstance(ratio, Ratio) else None,
        "bundle_sha256": report.bundle.sha256,
        "model_sha256": report.bundle.model_sha256,
    }
    if isinstance(energy := entry.energy, Energy):
        line |= {
            "sensor": energy.sensor,
            "scope": energy.scope,
            "idle_mw": energy.idle.average_power_mw,
            "power_mw": energy.average_power_mw,
            "energy_mj": energy.energy_per_inference_mj,
            "net_energy_mj": energy.net_energy_per_inference_mj,
            "energy_delay_mj_ms": energy.energy_delay_mj_ms,
        }
    if isinstance(outputs := report.outputs, Check):
        line |= {"outputs_passed": outputs.passed, "max_error": outputs.max_error}
    return line


def _times(times: Summary | NotMeasured) -> dict[str, Any]:
    if isinstance(times, NotMeasured):
        return {}
    middle = times.middle
    tails = {f"{name}_us": times.percentiles[name].value for name in ("p90", "p95", "p99")}
    ends = {"median_us": middle.value, "low_us": middle.low, "high_us": middle.high}
    return {"runs": times.count, **ends, **tails}


def _each(
    entries: Iterable[tuple[str, Entry]], lines: Callable[[Entry], Iterable[Sequence[Any]]]
) -> Iterable[Line]:
    for title, entry in entries:
        for line in lines(entry):
            yield [title, entry.name, entry.kind, *line]


def _layers(entry: Entry) -> Iterable[Sequence[Any]]:
    """One line per layer and input."""
    if not isinstance(entry.latency, Latency):
        return
    for layer in entry.latency.layers:
        for index in range(entry.latency.inputs):
            per_input = (layer.median_us_per_input, layer.executed_macs)
            times, macs = (one[index] if isinstance(one, list) else None for one in per_input)
            sides = (layer.active_inputs, layer.active_outputs)
            active = [None if one is None else one[index] for one in sides]
            yield [
                *(entry.threads, layer.name, layer.operator, layer.is_gate, index, times),
                *(layer.dense_macs, macs, layer.channels, *active),
            ]


def _windows(entry: Entry) -> Iterable[Sequence[Any]]:
    windows = entry.energy.windows if isinstance(entry.energy, Energy) else []
    return [[getattr(one, key) for key in _WINDOW.split(",")] for one in windows]


def _trace(entry: Entry) -> Iterable[Sequence[Any]]:
    """The power over time that the page draws."""
    return entry.energy.trace if isinstance(entry.energy, Energy) else []


def _methods(page: Page) -> str:
    """One line per row of the table of methods."""
    rows = []
    for row in page.methods:
        middle = row.latency_us.middle
        rows.append(
            {
                **vars(row),
                "mean_macs": row.macs.mean,
                "p95_macs": row.macs.p95,
                "max_macs": row.macs.maximum,
                "median_us": middle.value,
                "low_us": middle.low,
                "high_us": middle.high,
                "speedup": row.speedup.median,
            }
        )
    return render_csv(_METHOD, rows)


def _macs(page: Page) -> str:
    """The histogram of executed MACs of every dynamic network: one line per column."""
    rows = [
        [one.name, low, high, count]
        for one in page.efforts
        for low, high, count in zip(one.edges[:-1], one.edges[1:], one.counts, strict=True)
    ]
    return render_csv("network,from_macs,to_macs,images", rows)


def _density(page: Page) -> str:
    """One line per gated layer of every dynamic network; tenths are shares of all channels."""
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
