"""`headgate mlperf`: MLPerf Tiny's three modes on a microcontroller."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from headgate.cli.options import Images, Json
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
from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.energy import Energy
from headgate.device.agent.settings import Settings
from headgate.device.machines.find import find_machine
from headgate.device.machines.serial import SerialMachine
from headgate.device.machines.serial_program import SerialProgram
from headgate.device.program import Program
from headgate.errors import UsageError, suggest
from headgate.images import read_images
from headgate.profiling.meters import Asked, read_log
from headgate.profiling.mlperf import (
    TASKS,
    Performance,
    energy_report,
    measure_accuracy,
    measure_performance,
    read_energy_run,
    run_energy,
)
from headgate.profiling.mlperf.rules import BY_THE_RULES
from headgate.profiling.profile import measure

mlperf = typer.Typer(
    name="mlperf",
    help="Measure a microcontroller by MLPerf Tiny's rules: performance, accuracy, energy.",
    no_args_is_help=True,
)

Firmware = Annotated[
    Path,
    typer.Argument(metavar="BUNDLE", help="For a microcontroller, whose firmware the board runs."),
]
OnBoard = Annotated[
    str,
    typer.Option("--on", metavar="MACHINE", help="A board's port, such as serial:/dev/ttyACM0."),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write the JSON to this file.")]


@mlperf.command()
def performance(
    bundle: Firmware,
    machine: OnBoard,
    images: Images = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """Inferences a second: the median of five windows of 10 s, one input each."""
    opened = Bundle.open(bundle)
    inputs = _inputs(opened, images)
    with _board(opened, machine) as program, working(f"timing on {machine}") as say:
        found = measure_performance(program, inputs, say=say)
    if output is not None:
        write_json(output, found)
    if json:
        print_json(found)
    else:
        _print_performance(found)
    if not found.valid:
        raise typer.Exit(BAD_RESULT)


@mlperf.command()
def accuracy(
    bundle: Firmware,
    machine: OnBoard,
    images: Images = None,
    task: Annotated[
        str | None,
        typer.Option(metavar="TASK", help=f"Whose target is to be met: {', '.join(TASKS)}."),
    ] = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """Top-1 and AUC over labelled images, each inferred once; qemu:cortex-m4 will do as well."""
    if task is not None and task not in TASKS:
        raise UsageError(f"unknown --task {task!r}.{suggest(task, TASKS)}")
    if not images:
        raise UsageError("accuracy needs labelled images; give --images, say sample")
    opened = Bundle.open(bundle)
    batch = read_images(images, opened.manifest)
    if batch.labels is None:
        raise UsageError(
            "the images came without labels; 'sample' has them, and a folder in MLPerf Tiny's "
            "form with a y_labels.csv"
        )
    with _program(opened, machine) as program, working(f"running images on {machine}"):
        found = measure_accuracy(program, batch.array, batch.labels, TASKS[task] if task else None)
    if output is not None:
        write_json(output, found)
    if json:
        print_json(found)
    else:
        print_line(f"{found.network} on {found.machine}, {found.images} images")
        for name, share in (("top-1", found.top1), ("AUC", found.auc)):
            text = str(share) if isinstance(share, NotMeasured) else f"{share:.4f}"
            print_line(f"{name}: {text}")
        if task is not None:
            target = TASKS[task]
            word = "meets" if found.passed is True else "does NOT meet"
            print_line(f"{word} {target.name}'s target, {target.metric} {target.target:g}")
        print_line(found.note)
    if found.passed is False:
        raise typer.Exit(BAD_RESULT)


@mlperf.command()
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
    volts: Annotated[
        float | None, typer.Option(min=0.1, help="Of the supply, if the log has currents alone.")
    ] = None,
    rate_hz: Annotated[
        float | None, typer.Option(min=1.0, help="Samples a second, if the log has no times.")
    ] = None,
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the log's CSV, with the board's power.")
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
    if log is None:
        assert machine is not None
        if output is None:
            raise UsageError("the run's windows go to a file that --log needs; add -o run.json")
        _run(file, machine, images, output, json)
        return
    asked = Asked(volts=volts, rate_hz=rate_hz, column=column, pin=pin)
    report = energy_report(read_energy_run(file), read_log(log, asked))
    if output is not None:
        write_json(output, report)
    if json:
        print_json(report)
    else:
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
    if not report.valid:
        raise typer.Exit(BAD_RESULT)


def _run(bundle: Path, machine: str, images: list[str] | None, output: Path, json: bool) -> None:
    opened = Bundle.open(bundle)
    inputs = _inputs(opened, images)
    with _board(opened, machine) as program:
        array = inputs[0] if images else None
        with working(f"checking {bundle} on {machine}"):
            report = measure(bundle, machine, Settings(), array)
        if sys.stdin.isatty():
            input("start the meter's log, then press Enter")
        with working(f"running windows on {machine}") as say:
            run = run_energy(program, inputs, report, BY_THE_RULES, say)
    write_json(output, run)
    if json:
        print_json(run)
    else:
        next_step(
            f"save the meter's log; headgate mlperf energy {output} --log FILE -o energy.json"
        )


def _inputs(bundle: Bundle, images: list[str] | None) -> list[np.ndarray]:
    if images:
        return [read_images(images, bundle.manifest).array]
    return bundle.vectors()[0]


def _program(bundle: Bundle, name: str) -> Program:
    machine = find_machine(name)
    machine.check(bundle)
    return machine.load(bundle, 1)


def _board(bundle: Bundle, name: str) -> SerialProgram:
    machine = find_machine(name)
    if not isinstance(machine, SerialMachine):
        raise UsageError(
            f"{name} has no time of its own that means anything: give a board's port, such as "
            "serial:/dev/ttyACM0"
        )
    machine.check(bundle)
    return machine.load(bundle, 1)


def _print_performance(found: Performance) -> None:
    print_table(
        f"{found.network} on {found.machine}: {found.board}, {found.counter} at "
        f"{found.clock_hz / 1e6:g} MHz",
        ["input", "inferences", "s", "an inference, ms", "a second"],
        [
            (one.sample, one.inferences, one.seconds, 1e3 * one.latency_s, 1 / one.latency_s)
            for one in found.windows
        ],
    )
    print_line(
        f"median: {found.throughput_per_s:.3f} inferences a second, {found.latency_ms:.3f} ms"
    )
    for line in found.invalid_because:
        print_line(f"INVALID: {line}")
    for line in found.warnings:
        print_line(f"warning: {line}")
    print_line(found.note)
