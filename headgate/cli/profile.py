"""`headgate profile`: where one bundle's time goes, and what its gates left out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from headgate.cli.options import BundleFile, Images, Json, Machines, Threads, check_cores
from headgate.cli.output import (
    next_step,
    on_machine,
    print_json,
    print_line,
    print_table,
    working,
)
from headgate.cli.profile_boards import check_writable, profile_boards, write_or_print
from headgate.errors import UsageError
from headgate.profiling.absent import NotMeasured

if TYPE_CHECKING:
    from headgate.device.agent_call import Settings
    from headgate.profiling import LayerProfile, Profile
    from headgate.profiling.statistics import Summary


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
        typer.Option(
            "--sensor",
            metavar="KIND",
            help="The power sensor, such as pmic, jetson, hwmon:ina219@1-0040 or "
            "'command:./meter --csv'; device/agent/README.md has them all. Means --energy.",
        ),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(
            "--column",
            metavar="NAME",
            help="Of a meter's CSV: the column of the board's power; or of its volts and its "
            "amperes, with a comma between.",
        ),
    ] = None,
    cpus: Annotated[
        str | None,
        typer.Option("--cpus", metavar="LIST", help="Of boards: where it runs, such as 3 or 2-3."),
    ] = None,
    warmup: Annotated[
        int | None,
        typer.Option("--warmup", min=0, help="Of boards: untimed runs of each input in a round."),
    ] = None,
    governor: Annotated[
        str | None,
        typer.Option(
            "--governor",
            metavar="NAME",
            help="Of boards: the clock's meanwhile; needs root there.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write the JSON to this file; of several machines, to MACHINE.json in this "
            "folder. `headgate report` takes those of boards.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure one bundle, layer by layer: here, emulated, or on boards."""
    from headgate.device.agent_call import Settings
    from headgate.device.machines.fleet import names_of

    if column is not None and not (energy or sensor is not None):
        raise UsageError(f"--column {column}: for a meter's energy; give --energy or --sensor too")
    of_agent = {"--cpus": cpus, "--warmup": warmup, "--governor": governor}
    given = {option: str(value) for option, value in of_agent.items() if value is not None}
    settings = Settings(
        threads,
        energy or sensor is not None,
        sensor,
        column=column,
        rounds=repeat,
        # One word each: an option's value may begin with a dash, and the agent says what is wrong.
        extra=[f"{option}={value}" for option, value in given.items()],
    )
    names = names_of(machines)
    check_cores(names, threads)
    boards = [name for name in names if _has_agent(name, settings)]
    if boards and bundle.suffix == ".tflite":
        raise UsageError(f"{boards[0]} measures bundles (.hgb), not {bundle}")
    if boards and images:
        raise UsageError(
            f"{boards[0]} measures on the bundle's own test vectors; leave --images out"
        )
    if boards or len(names) > 1:
        if len(boards) < len(names):
            raise UsageError("emulators and boards are measured apart; name one kind with --on")
        profile_boards(bundle, names, settings, output, json)
        return
    if given:
        raise UsageError(
            f"{', '.join(given)}: for what the agent measures, which is boards, and host with "
            f"--energy; leave it out for {names[0]}"
        )
    if settings.energy:
        raise UsageError(f"{names[0]} is emulated: it has no energy to measure; leave --energy out")
    if bundle.suffix == ".tflite":
        if threads > 1:
            raise UsageError("--threads is for bundles; a .tflite file runs in one thread")
        _tflite(bundle, names[0], images, repeat, output, json)
        return
    _bundle(bundle, names[0], images, settings, output, json)


def _has_agent(name: str, settings: Settings) -> bool:
    """Whether the agent measures there: on boards, and on this machine for energy."""
    from headgate.device.machines.find import find_machine

    machine = find_machine(name)
    return machine.is_board or (settings.energy and not machine.emulated)


def _bundle(
    path: Path,
    machine: str,
    images: list[str] | None,
    settings: Settings,
    output: Path | None,
    json: bool,
) -> None:
    from headgate import Bundle
    from headgate.images import read_images
    from headgate.profiling import profile as measure

    opened = Bundle.open(path)
    array = read_images(images, opened).array if images else None
    if output is not None:
        check_writable(output)
    with working(f"measuring {path} on {machine}"):
        result = measure(opened, machine, array, settings.rounds, settings.threads)
    if output is not None:
        write_or_print(output, result)
    if json:
        print_json(result)
        return
    _print(result)
    next_step(f"headgate report {path} OTHER.hgb")


def _tflite(
    path: Path,
    machine: str,
    images: list[str] | None,
    repeat: int | None,
    output: Path | None,
    json: bool,
) -> None:
    from headgate.cli.compare import labelled_images
    from headgate.profiling.tflite_profile import profile_tflite

    batch = labelled_images(images, [path])
    if output is not None:
        check_writable(output)
    with working(f"measuring {path} on {machine}"):
        result = profile_tflite(path, machine, batch.array if batch else None, repeat)
    if output is not None:
        write_or_print(output, result)
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
