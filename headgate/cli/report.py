"""`headgate report`: a page to show to a colleague."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from headgate.cli.compare import labelled_images
from headgate.cli.options import Images, Json
from headgate.cli.output import next_step, print_json, print_line, working
from headgate.device import Bundle
from headgate.device.agent_report import read_agent_report
from headgate.device.bundle_folder import is_bundle
from headgate.device.targets import emulated_microcontrollers, host_architecture
from headgate.errors import UsageError
from headgate.profiling import compare, count_instructions, profile
from headgate.profiling.data import Page, build_report, read_page
from headgate.profiling.effort import measure_efforts
from headgate.profiling.report import write_report
from headgate.profiling.source import open_source


def report(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="As for `headgate compare`: bundles for boards get their instructions counted "
            "under QEMU. Or what `headgate profile -o` and the agent wrote (.json), of one machine "
            "or several, to lay side by side. Or the .json of an earlier page, to make it again.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The page; JSON and CSV go beside it.")
    ] = Path("report.html"),
    title: Annotated[str, typer.Option(help="Headline of the page.")] = "Headgate",
    images: Images = None,
    json: Json = False,
) -> None:
    """Measure programs, or take what boards measured, and write HTML, JSON and CSV."""
    written_before = [file for file in files if file.suffix == ".json"]
    if not written_before:
        data = _measure(files, title, images)
    elif len(written_before) < len(files) or images:
        raise UsageError(
            f"{written_before[0]} was measured already: no bundles and no --images beside it; make "
            "two pages"
        )
    else:
        data = _read(files, title)
    written = write_report(output, data)
    if json:
        print_json({"files": written})
        return
    for path in written:
        print_line(str(path))
    next_step(f"open {written[0]} in a browser")


def _read(files: list[Path], title: str) -> Page:
    first = read_page(files[0]) if len(files) == 1 else None
    if isinstance(first, Page):
        return first
    reports = [read_agent_report(file) for file in files] if first is None else [first]
    command = shlex.join(["headgate", "report", *map(str, files)])
    return build_report(title, profiles=reports, reproduce=[command])


def _measure(files: list[Path], title: str, images: list[str] | None) -> Page:
    array, labels = labelled_images(images, files)
    targets = {file: Bundle.open(file).target for file in files if is_bundle(file)}
    emulators = {
        file: f"qemu:{target['name']}"
        for file, target in targets.items()
        if target["arch"] != host_architecture()
    }
    here = [file for file in files if file not in emulators]
    comparison = None
    if here:
        with working(f"timing {len(here)} programs in turn"):
            comparison = compare(here, images=array, labels=labels)
    profiles, sources, counts = [], {}, {}
    for file in targets:
        machine = emulators.get(file)
        if targets[file]["name"] in emulated_microcontrollers():
            with working(f"profiling {file} on {machine}"):
                profiles.append(profile(file, str(machine), array))
        elif machine is not None:
            with working(f"counting instructions of {file} on {machine}"):
                counts[file.stem] = count_instructions(file, array, machine=machine)
        else:
            with working(f"profiling {file}"):
                profiles.append(profile(file, images=array))
            sources[file.stem] = open_source(file)
    efforts = []
    if gated := [name for name, source in sources.items() if source.manifest["gates"]]:
        seen = sources[gated[0]].vectors() if array is None else array
        with working(f"counting the work of {len(gated)} networks per image"):
            found = measure_efforts(sources, seen, labels)
        efforts = [found[name] for name in gated]
    return build_report(
        title,
        comparison=comparison,
        profiles=profiles,
        efforts=efforts,
        instructions=counts,
        reproduce=[shlex.join(["headgate", "report", *map(str, files)])],
    )
