"""`headgate profile --on BOARD,...`: the agent's reports, as tables and files."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

from headgate.cli.output import (
    next_step,
    print_json,
    print_line,
    print_table,
    working,
    write_json,
)
from headgate.cli.several import on_several
from headgate.device.files import atomic_write, storage_error
from headgate.errors import StorageError
from headgate.profiling.absent import is_measured

if TYPE_CHECKING:
    from headgate.device.agent_call import Settings

Report = Mapping[str, Any]
INVALID = 3


def profile_boards(
    bundle: Path, names: Sequence[str], settings: Settings, output: Path | None, json: bool
) -> None:
    """Measure a bundle on boards, or on this machine as on a board.

    Args:
        bundle: its file.
        names: of the machines.
        settings: what to measure.
        output: where the report goes; of several machines, the folder for them.
        json: whether to print the reports.

    Raises:
        StorageError: a report cannot be written; noticed later, the reports are printed.
        typer.Exit: with status 3 if a report is invalid, with 1 if a machine failed.
    """
    files = _files(names, output)
    if len(names) > 1:
        reports = _several(bundle, names, settings, files, json)
    else:
        with working(f"measuring {bundle} on {names[0]}"):
            reports = [_measure(bundle, names[0], settings)]
        if output is not None:
            write_or_print(output, reports[0])
        if json:
            print_json(reports[0])
        else:
            _print(reports[0], names[0])
    if not json:
        next_step(_next(bundle, names, output))
    if not all(report["valid"] for report in reports):
        raise typer.Exit(INVALID)


def _several(
    bundle: Path,
    names: Sequence[str],
    settings: Settings,
    files: Mapping[str, Path],
    json: bool,
) -> list[Report]:
    unwritten: dict[str, Report] = {}
    problems: list[str] = []

    def work(name: str) -> Report:
        report = _measure(bundle, name, settings)
        if name in files:
            try:
                write_json(files[name], report)
            except StorageError as error:
                unwritten[name] = report
                problems.append(str(error))
        return report

    def rescue() -> None:
        """Print what could not be written, as :func:`write_or_print` does."""
        if unwritten and not json:
            print_json(unwritten)
        if problems:
            raise StorageError("; ".join(problems))

    try:
        reports = on_several(names, work, _COLUMNS, _row, dict, json, _notes)
    except typer.Exit:  # A machine failed as well, which was said.
        rescue()
        raise
    rescue()
    return reports


def check_writable(path: Path) -> None:
    """Raise what writing this file would, before minutes of measuring; it stays as it is.

    Raises:
        StorageError: it cannot be written.
    """
    with contextlib.suppress(_NotYet), atomic_write(path):
        raise _NotYet


def write_or_print(path: Path, payload: Any) -> None:
    """Write what was measured; where that fails, after minutes, it is printed and not lost.

    Raises:
        StorageError: it could not be written.
    """
    try:
        write_json(path, payload)
    except StorageError:
        print_json(payload)
        raise


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
        check_writable(path)
    return files


def _next(bundle: Path, names: Sequence[str], output: Path | None) -> str:
    if output is None:
        return f"headgate profile {bundle} --on {','.join(names)} -o " + (
            "report.json" if len(names) == 1 else "reports"
        )
    files = output if len(names) == 1 else output / "*.json"
    return f"headgate report {files} -o report.html"


def _measure(bundle: Path, name: str, settings: Settings) -> Report:
    from headgate.device.machines.find import find_machine

    report = find_machine(name).measure(bundle, settings)
    # What a report's reader calls the board, and how it is measured again.
    return {**report, "machine": name}


def _file_name(machine: str) -> str:
    """A machine's name as one of a file: ``pi@[fe80::1]:22`` has characters that some refuse."""
    return "".join(one if one.isalnum() or one in "@._-" else "-" for one in machine)


_COLUMNS = ["", "board", "us", "p95", "M MACs", "mJ", "above idle"]


def _row(report: Report) -> tuple[object, ...]:
    """One machine of several."""
    latency, energy = report["latency"], report["energy"]
    cells: list[object] = ["", "", ""]
    if is_measured(latency):
        percentiles = latency["latency_us"]["percentiles"]
        cells = [percentiles[name]["value"] for name in ("p50", "p95")]
        cells.append(float(np.mean(latency["done_macs"])) / 1e6)
    if is_measured(energy):
        cells += [energy["energy_per_inference_mj"], energy["net_energy_per_inference_mj"]]
    else:
        cells += ["", ""]
    board = report["context"]["before"]["board"]
    word = "valid" if report["valid"] else "INVALID"
    return word, board if is_measured(board) else "unknown", *cells


def _print(report: Report, machine: str) -> None:
    latency = report["latency"]
    if is_measured(latency):
        network, target = report["bundle"]["name"], report["bundle"]["target"]["name"]
        print_table(
            f"{network} ({target}) on {machine}, mean of {latency['inputs']} inputs",
            ["layer", "operator", "us", "channels", "MACs done", "of dense"],
            [_layer_row(layer) for layer in latency["layers"]],
        )
        percentiles = latency["latency_us"]["percentiles"]
        median, p95 = percentiles["p50"], percentiles["p95"]
        print_line(
            f"time: {median['value']:.1f} us median ({median['low']:.1f} to {median['high']:.1f}), "
            f"p95 {p95['value']:.1f}, threads: {latency['threads']}, on CPU "
            f"{', '.join(map(str, latency['cpus']))}"
        )
        done, dense = float(np.mean(latency["done_macs"])), latency["dense_macs"]
        share = f" ({done / dense:.1%})" if dense else ""
        print_line(f"MACs done: {done:,.0f} of {dense:,} dense{share}")
    print_line(f"energy: {_energy(report['energy'])}")
    for line in _notes(report):
        print_line(line)


def _notes(report: Report) -> list[str]:
    """Why a report does not count, and what makes it less certain."""
    return [f"INVALID: {reason}" for reason in report["invalid_because"]] + [
        f"warning: {warning}" for warning in report["warnings"]
    ]


def _energy(energy: Mapping[str, Any]) -> str:
    if not is_measured(energy):
        return f"not measured: {energy['not_measured']}"
    return (
        f"{energy['energy_per_inference_mj']:.4g} mJ an inference, "
        f"{energy['net_energy_per_inference_mj']:.4g} mJ above idle; "
        f"{energy['average_power_mw']:.0f} mW ({energy['sensor']}: {energy['scope']})"
    )


def _layer_row(layer: Mapping[str, Any]) -> tuple[object, ...]:
    active = layer["active_outputs"]
    done, dense = float(np.mean(layer["done_macs"])), layer["dense_macs"]
    return (
        layer["name"],
        layer["operator"],
        layer["median_us"],
        "" if active is None else f"{np.mean(active):.1f}",
        done,
        f"{done / dense:.0%}" if dense else "",
    )
