"""The agent's reports on a bundle, of one machine or several, as tables and files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

import typer

from headgate.cli.machines import work_on
from headgate.cli.output import print_json, print_line, print_table, working, write_json
from headgate.cli.profile_firmware import print_firmware
from headgate.device.agent.absent import NotMeasured, to_json
from headgate.device.agent.firmware import Firmware
from headgate.device.agent.latency import Latency, LayerTime
from headgate.device.agent.percentiles import Summary
from headgate.device.agent.report import Report
from headgate.device.files import atomic_write, storage_error
from headgate.errors import StorageError
from headgate.profiling.missing import derive, figure
from headgate.profiling.views.layers import active_text, spread

Result = TypeVar("Result")


def measure_on(
    names: Sequence[str],
    file: Path,
    measure: Callable[[str], Result],
    show: Callable[[Result], None],
    output: Path | None,
    json: bool,
) -> list[Result]:
    """Measure a file on machines, print what is found and write it.

    Args:
        measure: on the machine of that name; of several it makes reports of the agent.
        show: prints what is found on the only machine.
        output: where it goes; of several machines, the folder for it.

    Raises:
        StorageError: it cannot be written; noticed after minutes of measuring, it is printed.
        typer.Exit: with status 1 if one of several machines failed.
    """
    files = _files(names, output)
    alone = len(names) == 1
    unwritten: dict[str, Result] = {}
    problems: list[str] = []

    def work(name: str) -> Result:
        with working(f"measuring {file} on {name}") if alone else nullcontext():
            found = measure(name)
        if name in files:
            try:
                write_json(files[name], found)
            except StorageError as error:
                unwritten[name] = found
                problems.append(str(error))
        return found

    def rescue() -> None:
        if unwritten and not json:
            print_json(unwritten[names[0]] if alone else unwritten)
        if problems:
            raise StorageError("; ".join(problems))

    def show_written(found: Result) -> None:
        rescue()
        show(found)

    try:
        found = work_on(names, work, show_written, _COLUMNS, _row, to_json, json, _notes)
    except typer.Exit:  # A machine failed as well, which was said.
        rescue()
        raise
    rescue()
    return found


class _NotYet(Exception):
    """Ends a write that was only tried."""


def _files(names: Sequence[str], output: Path | None) -> dict[str, Path]:
    """Where the report of each machine goes, after a try that it can be written."""
    if output is None:
        return {}
    files = {names[0]: output}
    if len(names) > 1:
        try:
            output.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise StorageError(
                f"cannot write {output}: the reports of several machines go to a folder, and it "
                "is a file; choose another name"
            ) from error
        except OSError as error:
            raise storage_error("make the folder", output, error) from error
        files = {name: output / f"{_file_name(name)}.json" for name in names}
    for path in files.values():
        # It raises what writing would, before minutes of measuring, and stays as it is.
        with suppress(_NotYet), atomic_write(path):
            raise _NotYet
    return files


def _file_name(machine: str) -> str:
    """A machine's name as one of a file: ``pi@[fe80::1]:22`` has characters that some refuse."""
    return "".join(one if one.isalnum() or one in "@._-" else "-" for one in machine)


_COLUMNS = ["", "board", "us", "p95", "M MACs", "mJ", "above idle"]


def _row(report: Any) -> tuple[object, ...]:
    board = report.context.before.board
    return (
        "valid" if report.valid else "INVALID",
        board if isinstance(board, str) else "unknown",
        figure(report.latency, "latency_us.median"),
        figure(report.latency, "latency_us.p95"),
        derive(lambda macs: macs / 1e6, figure(report.latency, "mean_macs")),
        figure(report.energy, "energy_per_inference_mj"),
        figure(report.energy, "net_energy_per_inference_mj"),
    )


def print_report(report: Report, machine: str) -> None:
    """Prints a report on one machine."""
    latency = report.latency
    if not isinstance(latency, NotMeasured):
        _print_latency(report, latency, machine)
    if isinstance(report.firmware, Firmware):
        print_firmware(report.firmware)
    print_line(f"energy: {report.energy}")
    for line in _notes(report):
        print_line(line)


def _print_latency(report: Report, latency: Latency, machine: str) -> None:
    firmware = report.firmware if isinstance(report.firmware, Firmware) else None
    counts = firmware.layer_counts if firmware else [None] * len(latency.layers)
    counted, is_timed = firmware is not None, isinstance(latency.latency_us, Summary)
    columns = [firmware.unit] if firmware else []
    columns += ["us"] if is_timed or not counted else []
    print_table(
        f"{report.bundle.name} ({report.bundle.target.name}) on {machine}, mean of "
        f"{latency.inputs} inputs",
        ["layer", "operator", *columns, "channels", "MACs", "of dense"],
        [
            (*row[:2], *((count,) if counted else ()), *row[2 if "us" in columns else 3 :])
            for layer, count in zip(latency.layers, counts, strict=True)
            if not layer.is_gate and (row := _layer_row(layer))
        ],
    )
    # A gate is many steps of a microsecond's fraction: one line says what matters of them.
    gates = [layer for layer in latency.layers if layer.is_gate]
    if gates:
        times = [layer.median_us for layer in gates if isinstance(layer.median_us, float)]
        share = f", {sum(times):.1f} us" if times else ""
        if firmware:
            of_gates = zip(latency.layers, firmware.layer_counts, strict=True)
            total = sum(one for layer, one in of_gates if layer.is_gate)
            share = f", {total:,.0f} {firmware.unit}{share}"
        macs = sum(layer.mean_macs for layer in gates)
        print_line(f"gates: {len(gates)} steps, {macs:,.0f} MACs{share} (--json lists them)")
    cpus = f", on CPU {', '.join(map(str, latency.cpus))}" if latency.cpus else ""
    how = f", threads: {latency.threads}{cpus}" if isinstance(latency.latency_us, Summary) else ""
    print_line(f"time: {time_text(latency.latency_us)}{how}")
    done, dense, each = latency.mean_macs, latency.dense_macs, latency.executed_macs
    share = f" ({done / dense:.1%})" if dense else ""
    print_line(f"MACs executed: {done:,.0f} of {dense:,} dense{share}")
    if min(each) != max(each):
        print_line(f"per input: {spread(each, '{:,.0f}'.format)}")
    if firmware is None:
        _print_instructions(report, latency)


def _print_instructions(report: Report, latency: Latency) -> None:
    count = report.instructions
    if not isinstance(count, NotMeasured):
        count_text = f"{count.instructions:,}, {count.per_mac:.2f} a MAC, {count.tool}"
        print_line(f"instructions: {count_text}")
    elif isinstance(latency.latency_us, NotMeasured):
        print_line(f"instructions: {count}")


def time_text(times: Summary | NotMeasured) -> str:
    """Median, interval and 95th percentile in words."""
    if isinstance(times, NotMeasured):
        return str(times)
    return (
        f"{times.median:.1f} us median ({times.middle.low:.1f} to {times.middle.high:.1f}) of "
        f"{times.count} runs, p95 {times.p95:.1f}"
    )


def _notes(report: Any) -> list[str]:
    """Why a report does not count, and what makes it less certain."""
    invalid = [f"INVALID: {reason}" for reason in report.invalid_because]
    return [*invalid, *(f"warning: {warning}" for warning in report.warnings)]


def _layer_row(layer: LayerTime) -> tuple[object, ...]:
    active, done, dense = layer.active_outputs, layer.mean_macs, layer.dense_macs
    return (
        layer.name,
        layer.operator,
        layer.median_us,
        "" if active is None or layer.channels is None else active_text(active, layer.channels),
        done,
        f"{done / dense:.0%}" if dense else "",
    )
