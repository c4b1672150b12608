"""`headgate mlperf energy`: windows on a board, and what a meter says of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from headgate.cli.mlperf_board import Output, board_on, inputs_of
from headgate.cli.options import Images, Json, measuring
from headgate.cli.output import (
    BAD_RESULT,
    next_step,
    print_json,
    print_line,
    print_table,
    working,
    write_json,
)
from headgate.device import Bundle
from headgate.device.agent.energy import Energy
from headgate.device.agent.report import Report
from headgate.device.agent.settings import Settings
from headgate.device.machines.serial_program import SerialProgram
from headgate.errors import UsageError
from headgate.profiling.meters import Asked, read_log
from headgate.profiling.mlperf import (
    energy_report,
    find_sensor,
    live_energy,
    read_energy_run,
    run_energy,
)
from headgate.profiling.mlperf.rules import BY_THE_RULES
from headgate.profiling.profile import measure

_WINDOWS_S = BY_THE_RULES.idle_s + BY_THE_RULES.windows * BY_THE_RULES.window_s


def energy(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="BUNDLE|RUN.json",
            help="The bundle, to run the windows while the meter logs; then what that wrote, with "
            "--log.",
        ),
    ],
    machine: Annotated[
        str | None,
        typer.Option("--on", metavar="MACHINE", help="A board's port, to run the windows there."),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            "--log",
            help="What the meter logged: lines of an LPM01A, CSV of a Joulescope or another meter, "
            "a trace of EEMBC's runner.",
        ),
    ] = None,
    sensor: Annotated[
        str | None,
        measuring("sensor", " device/agent/README.md has them all. In place of a log."),
    ] = None,
    volts: Annotated[
        float | None, typer.Option(min=0.1, help="Of the supply, if the log has currents alone.")
    ] = None,
    rate_hz: Annotated[
        float | None, typer.Option(min=1.0, help="Samples a second, if the log has no times.")
    ] = None,
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of a meter's CSV, with the board's power.")
    ] = None,
    pin: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the log's CSV, with the pin's level.")
    ] = None,
    images: Images = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """Energy of an inference, from windows that the board marks on a pin, and a meter's log."""
    if (machine is None) == (log is None):
        raise UsageError("first --on MACHINE, to run the windows; then --log FILE, of their run")
    _refuse("--log", log, {"--sensor": sensor, "--images": images})
    _refuse("--on", machine, {"--volts": volts, "--rate-hz": rate_hz, "--pin": pin})
    if column is not None and log is None and sensor is None:
        raise UsageError(f"--column {column}: for a meter; give --log or --sensor too")
    if machine is None:
        assert log is not None
        asked = Asked(volts=volts, rate_hz=rate_hz, column=column, pin=pin)
        report = energy_report(read_energy_run(file), read_log(log, asked))
    elif sensor is not None:
        found = find_sensor(sensor, column)
        note = f"running windows on {machine}: {_WINDOWS_S:.0f} s or more"
        with _checked(file, machine, images) as (program, inputs, before), working(note):
            report = live_energy(program, inputs, before, found)
    else:
        if output is None:
            raise UsageError("the run's windows go to a file that --log needs; add -o run.json")
        with _checked(file, machine, images) as (program, inputs, before):
            _run(program, inputs, before, output, json)
        return
    if output is not None:
        write_json(output, report)
    if json:
        print_json(report)
    else:
        _print(report, output)
    if not report.valid:
        raise typer.Exit(BAD_RESULT)


def _refuse(option: str, given: object, others: Mapping[str, object]) -> None:
    """Options that mean nothing beside one that was given."""
    wrong = [name for name, value in others.items() if value is not None]
    if given is not None and wrong:
        raise UsageError(f"{wrong[0]} means nothing beside {option}; leave it out")


def _print(report: Report, output: Path | None) -> None:
    print_line(f"energy: {report.energy}")
    if isinstance(report.energy, Energy):
        print_table(
            "Windows, by the meter",
            ["input", "inferences", "s", "mW", "mJ an inference"],
            [
                (
                    *(one.sample, one.inferences, one.end_s - one.start_s),
                    *(one.average_power_mw, one.energy_per_inference_mj),
                )
                for one in report.energy.windows
            ],
        )
    for line in report.invalid_because:
        print_line(f"INVALID: {line}")
    for line in report.warnings:
        print_line(f"warning: {line}")
    if output is not None:
        next_step(f"headgate report {output} -o report.html")


@contextmanager
def _checked(
    bundle: Path, machine: str, images: list[str] | None
) -> Iterator[tuple[SerialProgram, list[np.ndarray], Report]]:
    """The board, ready for windows, its inputs, and what `profile` says of it."""
    opened = Bundle.open(bundle)
    inputs = inputs_of(opened, images)
    with board_on(opened, machine) as program:
        with working(f"checking {bundle} on {machine}"):
            report = measure(bundle, machine, Settings(), inputs[0] if images else None)
        yield program, inputs, report


def _run(
    program: SerialProgram, inputs: list[np.ndarray], report: Report, output: Path, json: bool
) -> None:
    if sys.stdin.isatty():
        print("start the meter's log, then press Enter", file=sys.stderr, flush=True)
        sys.stdin.readline()
    with working(f"running windows on {program.machine}: {_WINDOWS_S:.0f} s or more") as say:
        run = run_energy(program, inputs, report, BY_THE_RULES, say)
    write_json(output, run)
    if json:
        print_json(run)
        return
    print_line("now save the meter's log")
    next_step(f"headgate mlperf energy {output} --log FILE -o energy.json")
