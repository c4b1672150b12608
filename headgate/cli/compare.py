"""`headgate compare`: several bundles and peers, timed in turn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.options import Images, Json
from headgate.cli.output import next_step, print_json, print_line, print_table, working
from headgate.errors import UsageError
from headgate.profiling.absent import NotMeasured

if TYPE_CHECKING:
    from headgate.profiling import Comparison, Standing


def compare(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Bundles (.hgb) for this machine, and networks that `headgate convert` wrote for "
            "peers (.tflite, .onnx, .ncnn.param).",
        ),
    ],
    images: Images = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="What ratios refer to; the first dense bundle by default."),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Fitted to ten seconds for each file if unset.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Also write an HTML report here, and its JSON and CSV beside it."),
    ] = None,
    json: Json = False,
) -> None:
    """Time several programs in turn on this machine, and compare them."""
    from headgate import Bundle
    from headgate.images import read_images
    from headgate.profiling import compare as measure
    from headgate.profiling.report import build_report, write_report

    array = labels = None
    if images:
        bundles = [file for file in files if file.suffix == ".hgb"]
        if not bundles:
            raise UsageError("--images needs a bundle (.hgb) that says how to preprocess them")
        batch = read_images(images, Bundle.open(bundles[0]))
        array, labels = batch.array, batch.labels if batch.labelled else None
    with working(f"timing {len(files)} programs in turn"):
        result = measure(files, images=array, labels=labels, baseline=baseline, rounds=rounds)
    if report is not None:
        names = " ".join(map(str, files))
        data = build_report(report.stem, comparison=result, reproduce=[f"headgate compare {names}"])
        write_report(report, data)
    if json:
        print_json(result)
        return
    print_comparison(result)
    if report is not None:
        print_line(f"report: {report}")
    next_step(f"headgate profile {files[-1]}")


def print_comparison(result: Comparison) -> None:
    """Prints the table of a comparison and its warnings."""
    print_table(
        f"{len(result.standings)} programs in turn, one thread, {result.rounds} rounds of "
        f"{result.images} images; ratios to {result.baseline}",
        ["name", "median us", "p95 us", "speed-up", "M MACs", "MACs saved", "realised", "accuracy"],
        [_row(standing) for standing in result.standings],
    )
    for warning in result.warnings:
        print_line(f"warning: {warning}")


def _row(one: Standing) -> tuple[object, ...]:
    def show(value: object, text: str) -> str:
        return "" if isinstance(value, NotMeasured) else text.format(value)

    done = one.done_macs if isinstance(one.done_macs, NotMeasured) else one.done_macs / 1e6
    realised = one.realised if isinstance(one.realised, NotMeasured) else one.realised.median
    images, test = one.accuracy_on_images, one.accuracy
    accuracy = test if isinstance(images, NotMeasured) else images
    return (
        one.name,
        f"{one.latency_us.median:.1f}",
        f"{one.latency_us.p95:.1f}",
        f"{one.speedup.median:.2f}x",
        show(done, "{:.2f}"),
        show(one.macs_saved, "{:.1%}"),
        show(realised, "{:.2f}"),
        show(accuracy, "{:.1%}"),
    )
