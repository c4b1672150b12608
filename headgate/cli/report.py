"""`headgate report`: a page to show to a colleague."""

from __future__ import annotations

import json as json_module
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.compare import labelled_images
from headgate.cli.options import Images, Json
from headgate.cli.output import next_step, print_json, print_line, working
from headgate.device.files import storage_error
from headgate.errors import InputError, MissingFile, UsageError, why

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from headgate.profiling.effort import Effort
    from headgate.profiling.source import Source


def report(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="As for `headgate compare`: bundles for boards get their instructions counted "
            "under QEMU. Or reports of the agent (.json), of one board or several, to lay side "
            "by side. Or the .json of an earlier report, to make its page again.",
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
    from headgate.profiling.report import write_report

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


def _read(files: list[Path], title: str) -> dict[str, Any]:
    """The data of an earlier page, or of a new one about what boards reported."""
    from headgate.device.agent_report import looks_like_agent_report, read_agent_report
    from headgate.profiling import build_board_report
    from headgate.profiling.boards.report import check_board_report
    from headgate.profiling.report import SCHEMA

    data = _json(files[0])
    _refuse_profile(files[0], data)
    if len(files) > 1 or looks_like_agent_report(data):
        reports = [read_agent_report(file) for file in files]
        command = shlex.join(["headgate", "report", *map(str, files)])
        return build_board_report(title, reports, [command])
    if isinstance(data, dict) and "boards" in data:
        return check_board_report(data, str(files[0]))
    if not isinstance(data, dict) or data.get("schema") != SCHEMA or "comparison" not in data:
        raise InputError(
            f"{files[0]} is not a report of this version; `headgate report` takes its own .json, "
            "and what `headgate profile BUNDLE --on BOARD -o FILE` writes"
        )
    return data


def _refuse_profile(path: Path, data: Any) -> None:
    """What ``profile -o`` writes for this machine has nothing to stand beside; bundles have."""
    if isinstance(data, dict) and {"machine", "mac_convention", "layers"} <= data.keys():
        raise InputError(
            f"{path} is a profile from {data['machine']}, and `headgate report` takes those of "
            "boards (`headgate profile BUNDLE --on BOARD -o FILE`); here, give it the bundles "
            "themselves: headgate report BUNDLE..."
        )


def _json(path: Path) -> Any:
    try:
        return json_module.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise MissingFile(f"no report {path}; check the path") from error
    except OSError as error:
        raise storage_error("read", path, error) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {why(error)}") from error


def _measure(files: list[Path], title: str, images: list[str] | None) -> dict[str, Any]:
    from headgate import Bundle
    from headgate.device.cpu import host_architecture
    from headgate.profiling import compare, count_instructions, profile
    from headgate.profiling.report import build_report
    from headgate.profiling.source import open_source

    batch = labelled_images(images, files)
    array = batch.array if batch else None
    labels = batch.labels if batch and batch.labelled else None
    bundles = {file: Bundle.open(file) for file in files if file.suffix == ".hgb"}
    foreign = {
        file: bundle
        for file, bundle in bundles.items()
        if bundle.target["arch"] != host_architecture()
    }
    here = [file for file in files if file not in foreign]
    comparison = None
    if here:
        with working(f"timing {len(here)} programs in turn"):
            comparison = compare(here, images=array, labels=labels)
    profiles, sources, counts = [], {}, {}
    for file in bundles:
        if file in foreign:
            machine = f"qemu:{foreign[file].target['name']}"
            with working(f"counting instructions of {file} on {machine}"):
                first = None if array is None else array[:1]
                counts[file.stem] = count_instructions(file, first, machine=machine)
        else:
            with working(f"profiling {file}"):
                profiles.append(profile(file, images=array))
            sources[file.stem] = open_source(file)
    efforts = _efforts(sources, array, labels)
    return build_report(
        title,
        comparison=comparison,
        profiles=profiles,
        efforts=efforts,
        instructions=counts,
        reproduce=[shlex.join(["headgate", "report", *map(str, files)])],
    )


def _efforts(
    sources: dict[str, Source],
    images: NDArray[np.float32] | None,
    labels: NDArray[np.integer[Any]] | None,
) -> list[Effort]:
    """Work per image of the dynamic networks among the bundles; by default on their vectors."""
    from headgate.profiling.effort import measure_efforts

    gated = [name for name, source in sources.items() if source.manifest["gates"]]
    if not gated:
        return []
    array = sources[gated[0]].vectors() if images is None else images
    with working(f"counting the work of {len(gated)} networks per image"):
        found = measure_efforts(sources, array, labels)
    return [found[name] for name in gated]
