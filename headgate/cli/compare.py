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
    from headgate.images import Batch
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
    json: Json = False,
) -> None:
    """Time several programs in turn on this machine, and compare them."""
    from headgate.profiling import compare as measure

    batch = labelled_images(images, files)
    array, labels = (
        (batch.array, batch.labels if batch.labelled else None) if batch else (None,) * 2
    )
    with working(f"timing {len(files)} programs in turn"):
        result = measure(files, images=array, labels=labels, baseline=baseline, rounds=rounds)
    if json:
        print_json(result)
        return
    print_comparison(result)
    next_step(f"headgate report {' '.join(map(str, files))}")


def labelled_images(images: list[str] | None, files: list[Path]) -> Batch | None:
    """What ``--images`` names, as the first bundle among ``files`` takes it; None if unset.

    Raises:
        UsageError: no bundle says how to preprocess them.
    """
    from headgate import Bundle
    from headgate.images import read_images

    if not images:
        return None
    bundles = [file for file in files if file.suffix == ".hgb"]
    if not bundles:
        raise UsageError("--images needs a bundle (.hgb) that says how to preprocess them")
    return read_images(images, Bundle.open(bundles[0]))


def print_comparison(result: Comparison) -> None:
    """Prints the table of a comparison and its warnings."""
    print_table(
        f"Programs in turn, one thread, {result.rounds} rounds of {result.images} images",
        ["name", "us", "p95", "speed-up", "M MACs", "saved", "realised", "accuracy"],
        [_row(standing) for standing in result.standings],
    )
    print_line(f"us: median; speed-up against {result.baseline}; realised: time saved / MACs saved")
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
