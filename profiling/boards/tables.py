"""The figures of boards as CSV; an empty field is a value that was not measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headgate.profiling.absent import NotMeasured, is_measured
from headgate.profiling.boards.entries import Board, Entry, Ratio, boards_of
from headgate.profiling.report_csv import render_csv


def board_csv_tables(data: Mapping[str, Any]) -> dict[str, str]:
    """The tables by what is added to the report's name."""
    boards = boards_of(data["boards"])
    tables = {"": _runs(boards), "-layers": _layers(boards)}
    if any(is_measured(entry.energy) for board in boards for entry in board.entries):
        tables |= {"-windows": _windows(boards), "-trace": _trace(boards)}
    return tables


def _runs(boards: Sequence[Board]) -> str:
    """One line per report."""
    header = (
        "board,network,kind,threads,valid,invalid_because,taken_utc,runs,median_us,low_us,high_us,"
        "p90_us,p95_us,p99_us,speedup,dense_macs,done_macs,macs_saved,realised,sensor,scope,"
        "idle_mw,power_mw,energy_mj,net_energy_mj,energy_delay_mj_ms,energy_ratio,outputs_passed,"
        "max_error,bundle_sha256,model_sha256"
    )
    return _rows(boards, header, lambda entry: [_run(entry)])


def _run(entry: Entry) -> list[Any]:
    report, latency, energy = entry.report, entry.latency, entry.energy
    values: list[Any] = [entry.name, entry.kind, entry.threads, report["valid"]]
    values += ["; ".join(report["invalid_because"]), report["context"]["before"]["taken_utc"]]
    if is_measured(latency):
        summary = latency["latency_us"]
        percentiles = summary["percentiles"]
        values.append(summary["count"])
        values += [percentiles["p50"][key] for key in ("value", "low", "high")]
        values += [percentiles[name]["value"] for name in ("p90", "p95", "p99")]
    else:
        values += [None] * 7
    values += [_median(entry.speedup()), entry.dense_macs, entry.done_macs]
    values += [_or_none(entry.macs_saved()), _or_none(entry.realised())]
    if is_measured(energy):
        values += [energy["sensor"], energy["scope"], energy["idle"]["average_power_mw"]]
        values += [energy["average_power_mw"], energy["energy_per_inference_mj"]]
        values += [energy["net_energy_per_inference_mj"], energy["energy_delay_mj_ms"]]
    else:
        values += [None] * 7
    values.append(_median(entry.energy_ratio()))
    outputs, bundle = report["outputs"], report["bundle"]
    checked = is_measured(outputs)
    values += [outputs[key] if checked else None for key in ("passed", "max_error")]
    return [*values, bundle["sha256"], bundle["model_sha256"]]


def _layers(boards: Sequence[Board]) -> str:
    """One line per layer and input of every timed network."""
    header = (
        "board,network,kind,threads,layer,operator,input,median_us,dense_macs,done_macs,channels,"
        "active_inputs,active_outputs"
    )

    def lines(entry: Entry) -> list[list[Any]]:
        if not is_measured(entry.latency):
            return []
        return [
            [
                *(entry.name, entry.kind, entry.threads),
                *(layer["name"], layer["operator"], index, layer["median_us_per_input"][index]),
                *(layer["dense_macs"], layer["done_macs"][index], layer["channels"]),
                *(None if layer[key] is None else layer[key][index] for key in _ACTIVE),
            ]
            for layer in entry.latency["layers"]
            for index in range(entry.latency["inputs"])
        ]

    return _rows(boards, header, lines)


_ACTIVE = ("active_inputs", "active_outputs")
_WINDOW = (
    "sample,start_s,end_s,inferences,latency_ms,energy_mj,average_power_mw,"
    "energy_per_inference_mj,net_energy_per_inference_mj,energy_delay_mj_ms,cpu_share,samples,"
    "gaps,gap_s"
)


def _windows(boards: Sequence[Board]) -> str:
    """One line per window."""

    def lines(entry: Entry) -> list[list[Any]]:
        windows = entry.energy["windows"] if is_measured(entry.energy) else []
        keys = _WINDOW.split(",")
        return [[entry.name, entry.kind, *(one[key] for key in keys)] for one in windows]

    return _rows(boards, f"board,network,kind,{_WINDOW}", lines)


def _trace(boards: Sequence[Board]) -> str:
    """The power over time that the page draws."""

    def lines(entry: Entry) -> list[list[Any]]:
        points = entry.energy["trace"] if is_measured(entry.energy) else []
        return [[entry.name, entry.kind, time, power] for time, power in points]

    return _rows(boards, "board,network,kind,time_s,power_mw", lines)


def _rows(boards: Sequence[Board], header: str, lines: Callable[[Entry], list[list[Any]]]) -> str:
    return render_csv(
        header,
        ([board.title, *line] for board in boards for one in board.entries for line in lines(one)),
    )


def _median(ratio: Ratio | NotMeasured) -> float | None:
    return ratio.median if isinstance(ratio, Ratio) else None


def _or_none(value: float | NotMeasured) -> float | None:
    return None if isinstance(value, NotMeasured) else value
