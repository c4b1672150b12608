"""`headgate mlperf`: MLPerf Tiny's three modes on a microcontroller."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headgate.cli.mlperf_board import Output, board_on, inputs_of, program_on
from headgate.cli.mlperf_energy import energy
from headgate.cli.options import Images, Json
from headgate.cli.output import BAD_RESULT, print_json, print_line, print_table, working, write_json
from headgate.device import Bundle
from headgate.device.agent.absent import NotMeasured
from headgate.errors import UsageError, suggest
from headgate.images import read_images
from headgate.profiling.mlperf import TASKS, Performance, measure_accuracy, measure_performance

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
    inputs = inputs_of(opened, images)
    with board_on(opened, machine) as program, working(f"timing on {machine}") as say:
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
    with program_on(opened, machine) as program, working(f"running images on {machine}"):
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


mlperf.command()(energy)


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
