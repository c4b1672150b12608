"""A report's tables as CSV; an empty field is a value that was not measured."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headgate.profiling.absent import is_measured
from headgate.profiling.effort import GROUPS


def csv_tables(data: Mapping[str, Any]) -> dict[str, str]:
    """The tables by what is added to the report's name; those of dynamic networks if there are."""
    tables = {"": render_standings_csv(data), "-layers": render_layers_csv(data)}
    if data["efforts"]:
        tables |= {"-macs": render_macs_csv(data), "-density": render_density_csv(data)}
    return tables


def render_standings_csv(data: Mapping[str, Any]) -> str:
    """One line per contestant."""
    header = (
        "name,kind,runs,median_us,low_us,high_us,p95_us,spread_us,speedup,dense_macs,done_macs,"
        "arithmetic_speedup,macs_saved,time_saved,realised,accuracy,top1_agreement,sha256"
    )
    rows = []
    for one in (data["comparison"] or {}).get("standings", []):
        latency = one["latency_us"]
        values = [one["name"], one["kind"]]
        values += [latency[key] for key in ("count", "median", "low", "high", "p95", "spread")]
        values += [one["speedup"]["median"], one["dense_macs"], one["done_macs"]]
        values += [one[key] for key in ("arithmetic_speedup", "macs_saved", "time_saved")]
        realised = one["realised"]
        values += [realised["median"] if is_measured(realised) else realised]
        values += [one["accuracy"], one["top1_agreement"], one["sha256"]]
        rows.append(values)
    return _csv(header, rows)


def render_layers_csv(data: Mapping[str, Any]) -> str:
    """One line per layer of every profile."""
    header = (
        "network,machine,layer,operator,is_gate,time_us,dense_macs,done_macs,channels,"
        "active_channels_mean,active_channels_min,active_channels_max,active_inputs"
    )
    rows = []
    for profile in data["profiles"]:
        for layer in profile["layers"]:
            active = layer["active_channels"]
            rows.append(
                [
                    profile["name"],
                    profile["machine"],
                    *(layer[key] for key in ("name", "operator", "is_gate", "time_us")),
                    *(layer[key] for key in ("dense_macs", "done_macs", "channels")),
                    *([None] * 3 if active is None else _spread(active)),
                    layer["active_inputs"],
                ]
            )
    return _csv(header, rows)


def render_macs_csv(data: Mapping[str, Any]) -> str:
    """The histogram of executed MACs of every dynamic network: one line per column."""
    rows = [
        [one["name"], low, high, count]
        for one in data["efforts"]
        for low, high, count in zip(one["edges"][:-1], one["edges"][1:], one["counts"], strict=True)
    ]
    return _csv("network,from_macs,to_macs,images", rows)


def render_density_csv(data: Mapping[str, Any]) -> str:
    """One line per gated layer of every dynamic network; tenths are shares of all channels."""
    tenths = [f"tenth_{index}" for index in range(1, GROUPS + 1)]
    header = ",".join(["network,layer,gate,channels,min,mean,p95,max", *tenths])
    rows = []
    for one in data["efforts"]:
        for layer in one["layers"]:
            active = layer["active"]
            rows.append(
                [
                    one["name"],
                    *(layer[key] for key in ("name", "gate", "channels")),
                    *(active[key] for key in ("minimum", "mean", "p95", "maximum")),
                    *(layer["shares_by_cost"] or [None] * GROUPS),
                ]
            )
    return _csv(header, rows)


def _spread(active: Sequence[int]) -> list[float]:
    return [sum(active) / len(active), min(active), max(active)]


def _csv(header: str, rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    text.write(f"{header}\n")
    for row in rows:
        writer.writerow("" if value is None or not is_measured(value) else value for value in row)
    return text.getvalue()
