"""`headgate compare`: several bundles and peers, timed in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from headgate.cli.options import Images, Json
from headgate.cli.output import next_step, print_json, print_line, print_table, working
from headgate.device import Bundle
from headgate.device.agent.absent import NotMeasured, is_measured
from headgate.device.bundle_folder import is_bundle
from headgate.device.machines.find import find_machine
from headgate.device.tflite_file import Description
from headgate.errors import UsageError
from headgate.images import read_images
from headgate.profiling import Comparison, CountedStanding, Standing, compare_counted
from headgate.profiling import compare as measure
from headgate.profiling.missing import derive, figure

_HEADINGS = ("us", "p95", "speed-up", "M MACs", "saved", "realised", "accuracy")


def compare(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Bundles (.hgb) for this machine, and networks for peers (.tflite, .onnx, "
            ".ncnn.param), which `headgate compile --backend` wrote.",
        ),
    ],
    machine: Annotated[
        str,
        typer.Option(
            "--on",
            metavar="MACHINE",
            help="host; or an emulated board such as qemu:rpi4, where instructions are counted "
            "instead of time, of bundles for it and of .tflite files.",
        ),
    ] = "host",
    images: Images = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="What ratios refer to; the first dense bundle by default."),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Fitted to ten seconds for each file if unset.")
    ] = None,
    json: Json = False,
) -> None:
    """Time several programs in turn on this machine, or count their instructions, and compare."""
    array, labels = labelled_images(images, files)
    if machine != "host":
        _on_board(files, machine, array, labels, baseline, json)
        return
    with working(f"timing {len(files)} programs in turn"):
        result = measure(files, images=array, labels=labels, baseline=baseline, rounds=rounds)
    if json:
        print_json(result)
        return
    print_comparison(result)
    next_step(f"headgate report {' '.join(map(str, files))}")


def _on_board(
    files: list[Path],
    machine: str,
    images: NDArray[np.float32] | None,
    labels: NDArray[np.int64] | None,
    baseline: str | None,
    json: bool,
) -> None:
    find_machine(machine)
    with working(f"running {len(files)} programs on {machine}"):
        result = compare_counted(files, machine, images=images, labels=labels, baseline=baseline)
    if json:
        print_json(result)
        return
    headings = ["instructions", "fewer", "a MAC", "M MACs", "saved", "same top-1", "accuracy"]
    print_table(
        f"Instructions on {machine} ({result.cpu}), first of {result.images} images",
        ["name", *_dtype_heading(result.standings), *headings],
        [
            (
                *_named(one, result.standings),
                one.instructions,
                derive("{:.2f}x".format, one.fewer),
                derive("{:.3f}".format, one.per_mac),
                f"{one.executed_macs / 1e6:.2f}",
                f"{one.macs_saved:.1%}",
                f"{one.top1_agreement:.1%}",
                derive("{:.1%}".format, one.accuracy_on_images),
            )
            for one in result.standings
        ],
    )
    print_line(f"fewer: against {result.baseline}; instructions are not a time")
    for reason in sorted(
        {str(one.instructions) for one in result.standings if not is_measured(one.instructions)}
    ):
        print_line(f"instructions: {reason}")


def labelled_images(
    images: list[str] | None, files: list[Path]
) -> tuple[NDArray[np.float32] | None, NDArray[np.int64] | None]:
    """What ``--images`` names, as the first of ``files`` that tells takes it, and the classes."""

    if not images:
        return None, None
    for file in files:
        if is_bundle(file):
            manifest: Mapping[str, Any] = Bundle.open(file).manifest
        elif file.suffix == ".tflite" and file.is_file() and (told := Description.read(file)):
            manifest = told.manifest
        else:
            continue
        batch = read_images(images, manifest)
        return batch.array, batch.labels
    raise UsageError(
        "--images needs a file of ours (.hgb or .tflite) that says how to preprocess them"
    )


def print_comparison(result: Comparison) -> None:
    print_table(
        f"Programs in turn, one thread, {result.rounds} rounds of {result.images} images",
        ["name", *_dtype_heading(result.standings), *_HEADINGS],
        [(*_named(one, result.standings), *_row(one)) for one in result.standings],
    )
    against = ", against dense of the same dtype" if _dtype_heading(result.standings) else ""
    realised = f"realised: time saved / MACs saved{against}"
    print_line(f"us: median; speed-up against {result.baseline}; {realised}")
    for warning in result.warnings:
        print_line(f"warning: {warning}")


def _dtype_heading(standings: Sequence[Standing | CountedStanding]) -> list[str]:
    """The column of data types, left out where there is only float32."""
    return [] if all(one.dtype == "float32" for one in standings) else ["dtype"]


def _named(
    one: Standing | CountedStanding, standings: Sequence[Standing | CountedStanding]
) -> tuple[str, ...]:
    return (one.name, one.dtype) if _dtype_heading(standings) else (one.name,)


def _row(one: Standing) -> tuple[object, ...]:
    images, test = one.accuracy_on_images, one.accuracy
    return (
        f"{one.latency_us.median:.1f}",
        f"{one.latency_us.p95:.1f}",
        f"{one.speedup.median:.2f}x",
        derive("{:.2f}".format, derive(lambda macs: macs / 1e6, one.executed_macs)),
        derive("{:.1%}".format, one.macs_saved),
        derive("{:.2f}".format, figure(one.realised, "median")),
        derive("{:.1%}".format, test if isinstance(images, NotMeasured) else images),
    )
