"""`headgate profile`: where one bundle's time goes, and what its gates left out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.compare import labelled_images
from headgate.cli.machines import machines_of
from headgate.cli.options import BundleFile, Images, Json, Machines, Threads, measuring
from headgate.cli.output import BAD_RESULT, next_step, on_machine, print_line
from headgate.cli.profile_boards import measure_on, next_of, print_report, time_text
from headgate.errors import UsageError

if TYPE_CHECKING:
    from headgate.profiling.tflite_profile import TFLiteProfile


def profile(
    bundle: BundleFile,
    machines: Machines = "host",
    images: Images = None,
    repeat: Annotated[
        int | None,
        typer.Option(min=1, help="Timed rounds over the images; fitted to some seconds if unset."),
    ] = None,
    threads: Threads = 1,
    energy: Annotated[
        bool, typer.Option("--energy", help="Measure energy too, in runs of its own: minutes.")
    ] = False,
    sensor: Annotated[
        str | None,
        measuring("sensor", " device/agent/README.md has them all. Means --energy."),
    ] = None,
    column: Annotated[str | None, measuring("column")] = None,
    cpus: Annotated[str | None, measuring("cpus")] = None,
    warmup: Annotated[int | None, measuring("warmup", least=0)] = None,
    governor: Annotated[str | None, measuring("governor")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write the JSON to this file; of several machines, to MACHINE.json in this "
            "folder. `headgate report` takes them.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure one bundle, layer by layer: here, emulated, or on boards."""
    from headgate import Bundle
    from headgate.device.agent.settings import Settings
    from headgate.images import read_images
    from headgate.profiling.profile import measure
    from headgate.profiling.tflite_profile import profile_tflite

    if column is not None and not (energy or sensor is not None):
        raise UsageError(f"--column {column}: for a meter's energy; give --energy or --sensor too")
    of_agent = {"--cpus": cpus, "--warmup": warmup, "--governor": governor}
    given = [option for option, value in of_agent.items() if value is not None]
    settings = Settings(
        threads=threads,
        energy=energy or sensor is not None,
        cpus=cpus,
        governor=governor,
        rounds=repeat,
        warmup=warmup,
        sensor=sensor,
        column=column,
    )
    found = machines_of(machines, threads)
    names = list(found)
    boards = [name for name, machine in found.items() if machine.is_board]
    emulated = [name for name, machine in found.items() if machine.emulated]
    if boards and images:
        raise UsageError(
            f"{boards[0]} measures on the bundle's own test vectors; leave --images out"
        )
    if len(names) > 1 and len(boards) < len(names):
        raise UsageError("emulators and boards are measured apart; name one kind with --on")
    if given and (emulated or bundle.suffix == ".tflite"):
        raise UsageError(
            f"{', '.join(given)}: for what the agent times, which is bundles on boards and on "
            f"host; leave it out for {bundle if bundle.suffix == '.tflite' else emulated[0]}"
        )
    if settings.energy and emulated:
        raise UsageError(f"{names[0]} is emulated: it has no energy to measure; leave --energy out")
    if bundle.suffix == ".tflite":
        if boards or settings.energy:
            raise UsageError(f"{names[0]} measures bundles (.hgb), not {bundle}")
        if threads > 1:
            raise UsageError("--threads is for bundles; a .tflite file runs in one thread")
        array, _ = labelled_images(images, [bundle])
        measure_on(
            names,
            bundle,
            lambda name: profile_tflite(bundle, name, array, repeat),
            lambda found: _print_tflite(found, bundle),
            output,
            json,
        )
        return
    array = read_images(images, Bundle.open(bundle).manifest).array if images else None
    reports = measure_on(
        names,
        bundle,
        lambda name: measure(bundle, name, settings, array),
        lambda report: print_report(report, names[0]),
        output,
        json,
    )
    if not json:
        next_step(next_of(bundle, names, output))
    # On this machine clocks may change as its owner likes; what was asked to count must count.
    if (boards or settings.energy) and not all(report.valid for report in reports):
        raise typer.Exit(BAD_RESULT)


def _print_tflite(found: TFLiteProfile, path: Path) -> None:
    kind = found.quantization or "fp32"
    print_line(f"{path} ({kind}, {found.file_bytes:,} bytes) in LiteRT on {found.machine}")
    print_line(f"time: {time_text(found.latency_us)}")
    macs, count = found.dense_macs, found.instructions
    if isinstance(macs, int):
        print_line(f"MACs: {macs:,}")
    if isinstance(count, int):
        share = f", {count / macs:.2f} a MAC" if isinstance(macs, int) else ""
        print_line(f"instructions: {count:,}{share}")
    else:
        print_line(f"instructions: {count}")
    for warning in found.warnings:
        print_line(f"warning: {warning}")
    next_step(on_machine(f"headgate compare OTHER.hgb {path}", found.machine))
