"""`headgate profile`: where one bundle's time goes, and what its gates left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from headgate.cli.compare import labelled_images
from headgate.cli.machines import machines_of
from headgate.cli.options import BundleFile, Images, Json, Machines, Threads, measuring
from headgate.cli.output import BAD_RESULT, next_step, on_machine, print_line
from headgate.cli.profile_boards import measure_on, print_report, time_text
from headgate.device.agent.firmware import Firmware
from headgate.device.agent.report import Report
from headgate.device.agent.settings import Settings
from headgate.errors import UsageError
from headgate.profiling.profile import measure
from headgate.profiling.tflite_profile import TFLiteProfile, profile_tflite


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
    if len(names) > 1 and (emulated or "host" in names):
        raise UsageError("emulators and boards are measured apart; name one kind with --on")
    tflite = bundle.suffix == ".tflite"
    if given and (emulated or tflite):
        raise UsageError(
            f"{', '.join(given)}: for what the agent times, which is bundles on boards and on "
            f"host; leave it out for {bundle if tflite else emulated[0]}"
        )
    if settings.energy and emulated:
        raise UsageError(f"{names[0]} is emulated: it has no energy to measure; leave --energy out")
    if tflite and (boards or settings.energy):
        raise UsageError(f"{names[0]} measures bundles (.hgb), not {bundle}")
    if tflite and threads > 1:
        raise UsageError("--threads is for bundles; a .tflite file runs in one thread")
    array, _ = labelled_images(images, [bundle])

    def work(name: str) -> Any:
        if tflite:
            return profile_tflite(bundle, name, array, repeat)
        return measure(bundle, name, settings, array)

    def show(found: Any) -> None:
        if tflite:
            _print_tflite(found, bundle)
        else:
            print_report(found, names[0])

    reports = measure_on(names, bundle, work, show, output, json)
    if not json:
        next_step(_next(bundle, names, output))
    # On this machine clocks may change as its owner likes; what was asked to count must count.
    must_count = boards or settings.energy or any(map(_is_of_firmware, reports))
    if must_count and not all(report.valid for report in reports):
        raise typer.Exit(BAD_RESULT)


def _is_of_firmware(report: Any) -> bool:
    return isinstance(report, Report) and isinstance(report.firmware, Firmware)


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


def _next(bundle: Path, names: Sequence[str], output: Path | None) -> str:
    if bundle.suffix == ".tflite":
        return on_machine(f"headgate compare OTHER.hgb {bundle}", names[0])
    if output is None and list(names) == ["host"]:
        return f"headgate report {bundle} OTHER.hgb"
    if output is None:
        return f"headgate profile {bundle} --on {','.join(names)} -o " + (
            "report.json" if len(names) == 1 else "reports"
        )
    files = output if len(names) == 1 else output / "*.json"
    return f"headgate report {files} -o report.html"
