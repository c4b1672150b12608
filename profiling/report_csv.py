"""A report's tables as CSV; an empty field is a value that was not measured."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headgate.profiling.absent import is_measured
from headgate.profiling.effort import GROUPS


def csv_tables(data: Mapping[str, Any]) -> dict[str, str]:
    """The tables by what is added to the report's name; of dynamic networks if there are any."""
    tables = {"": render_standings_csv(data), "-layers": render_layers_csv(data)}
    if data["efforts"]:
        tables |= {"-macs": render_macs_csv(data), "-density": render_density_csv(data)}
    if data["methods"]:
        tables["-methods"] = render_methods_csv(data)
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
    return render_csv(header, rows)


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
    return render_csv(header, rows)


def render_methods_csv(data: Mapping[str, Any]) -> str:
    """One line per row of the table of methods."""
    header = (
        "name,network,method,program,accuracy,accuracy_images,dense_macs,counted_macs,mean_macs,"
        "p95_macs,max_macs,fewer,median_us,low_us,high_us,speedup,realised,weights_bytes,file_bytes"
    )
    rows = []
    for row in data["methods"]:
        values = [row[key] for key in ("name", "network", "method", "program")]
        values += [
            row[key] for key in ("accuracy", "accuracy_images", "dense_macs", "counted_macs")
        ]
        values += [row["macs"][key] for key in ("mean", "p95", "maximum")]
        values += [row["fewer"], *(row["latency_us"][key] for key in ("median", "low", "high"))]
        values += [row["speedup"]["median"], row["realised"]]
        rows.append([*values, row["weights_bytes"], row["file_bytes"]])
    return render_csv(header, rows)


def render_macs_csv(data: Mapping[str, Any]) -> str:
    """The histogram of executed MACs of every dynamic network: one line per column."""
    rows = [
        [one["name"], low, high, count]
        for one in data["efforts"]
        for low, high, count in zip(one["edges"][:-1], one["edges"][1:], one["counts"], strict=True)
    ]
    return render_csv("network,from_macs,to_macs,images", rows)


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
    return render_csv(header, rows)


def _spread(active: Sequence[int]) -> list[float]:
    return [sum(active) / len(active), min(active), max(active)]


def render_csv(header: str, rows: Iterable[Sequence[Any]]) -> str:
    """A table under its header; a value that is missing, or was not measured, is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    text.write(f"{header}\n")
    for row in rows:
        writer.writerow("" if value is None or not is_measured(value) else value for value in row)
    return text.getvalue()
