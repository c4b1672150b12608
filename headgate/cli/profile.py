"""`headgate profile`: where one bundle's time goes, and what its gates left out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from headgate.cli.options import BundleFile, Images, Json, Machine
from headgate.cli.output import next_step, on_machine, print_json, print_line, print_table, working
from headgate.profiling.absent import NotMeasured

if TYPE_CHECKING:
    from headgate.profiling import LayerProfile, Profile
    from headgate.profiling.statistics import Summary


def profile(
    bundle: BundleFile,
    machine: Machine = "host",
    images: Images = None,
    repeat: Annotated[
        int | None,
        typer.Option(min=1, help="Timed rounds over the images; fitted to four seconds if unset."),
    ] = None,
    json: Json = False,
) -> None:
    """Measure one bundle, layer by layer."""
    from headgate import Bundle
    from headgate.images import read_images
    from headgate.profiling import profile as measure

    if bundle.suffix == ".tflite":
        _tflite(bundle, machine, images, repeat, json)
        return
    opened = Bundle.open(bundle)
    array = read_images(images, opened).array if images else None
    with working(f"measuring {bundle} on {machine}"):
        result = measure(opened, machine, array, repeat)
    if json:
        print_json(result)
        return
    _print(result)
    next_step(f"headgate report {bundle} OTHER.hgb")


def _tflite(
    path: Path, machine: str, images: list[str] | None, repeat: int | None, json: bool
) -> None:
    from headgate.cli.compare import labelled_images
    from headgate.profiling.tflite_profile import profile_tflite

    batch = labelled_images(images, [path])
    with working(f"measuring {path} on {machine}"):
        result = profile_tflite(path, machine, batch.array if batch else None, repeat)
    if json:
        print_json(result)
        return
    kind = result.quantization or "fp32"
    print_line(f"{path} ({kind}, {result.file_bytes:,} bytes) in LiteRT on {machine}")
    print_line(f"time: {_time(result.latency_us)}")
    macs, count = result.dense_macs, result.instructions
    if isinstance(macs, int):
        print_line(f"MACs: {macs:,}")
    if isinstance(count, int):
        share = f", {count / macs:.2f} a MAC" if isinstance(macs, int) else ""
        print_line(f"instructions: {count:,}{share}")
    else:
        print_line(f"instructions: {count}")
    for warning in result.warnings:
        print_line(f"warning: {warning}")
    next_step(on_machine(f"headgate compare OTHER.hgb {path}", machine))


def _time(latency: Summary | NotMeasured) -> str:
    if isinstance(latency, NotMeasured):
        return str(latency)
    return (
        f"{latency.median:.1f} us median of {latency.count} runs, p95 {latency.p95:.1f}, "
        f"quartiles {latency.spread:.1f} apart"
    )


def _print(result: Profile) -> None:
    print_table(
        f"{result.name} ({result.target}) on {result.machine}, mean of {result.images} images",
        ["layer", "operator", "us", "channels", "MACs done", "of dense"],
        [_row(layer) for layer in result.layers if not layer.is_gate],
    )
    # A gate is many steps of a microsecond's fraction: one line says what matters of them.
    steps = sum(layer.is_gate for layer in result.layers)
    if steps:
        share = f", {result.gate_time_us:.1f} us" if isinstance(result.gate_time_us, float) else ""
        print_line(f"gates: {steps} steps, {result.gate_macs:,.0f} MACs{share} (--json lists them)")
    print_line(f"time: {_time(result.latency_us)}")
    print_line(
        f"MACs done: {result.done_macs:,.0f} of {result.dense_macs:,} dense "
        f"({result.done_macs / result.dense_macs:.1%})"
    )
    macs = result.macs_per_image
    if macs.minimum != macs.maximum:
        print_line(
            f"per image: {macs.minimum:,.0f} at least, {macs.mean:,.0f} in the mean, "
            f"{macs.p95:,.0f} at the 95th percentile, {macs.maximum:,.0f} at most"
        )
    count = result.instructions
    if isinstance(count, NotMeasured):
        print_line(f"instructions: {count}")
    else:
        print_line(f"instructions: {count.instructions:,}, {count.per_mac:.2f} a MAC, {count.tool}")
    for warning in result.warnings:
        print_line(f"warning: {warning}")


def _row(layer: LayerProfile) -> tuple[object, ...]:
    channels = ""
    if layer.active_channels is not None:
        active = layer.active_channels
        channels = f"{np.mean(active):.1f} of {layer.channels}"
        if min(active) != max(active):
            channels += f" ({min(active)} to {max(active)}, p95 {np.percentile(active, 95):.0f})"
    share = f"{layer.done_macs / layer.dense_macs:.0%}" if layer.dense_macs else ""
    time_us = layer.time_us if isinstance(layer.time_us, float) else ""
    return layer.name, layer.operator, time_us, channels, layer.done_macs, share
