"""The whole path in a few minutes: shipped networks, compiled, checked, compared, reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from headgate.device import Validation, validate
from headgate.device.files import storage_error
from headgate.device.pictures import sample_images
from headgate.errors import ToolMissing
from headgate.networks import Network, compile_network, find_network
from headgate.profiling import Comparison, InstructionCount, compare, count_instructions, profile
from headgate.profiling.effort import measure_efforts
from headgate.profiling.report import build_report, write_report
from headgate.profiling.source import open_source

NETWORKS = ("resnet8", "resnet8-fbs-0.7", "resnet8-fbs-0.5")
BOARD = "rpi4"
EMULATED_BOARD = f"qemu:{BOARD}"
PROFILED_IMAGES = 50

Say = Callable[[str], None]


@dataclass(frozen=True)
class Built:
    """One network, compiled for this machine and the board, and checked on both, given QEMU."""

    network: Network
    host: Path
    on_host: Validation
    on_board: Validation | None
    instructions: InstructionCount | None


@dataclass(frozen=True)
class Demo:
    """What :func:`demo` found out; ``missing`` says what was left out and how to get it."""

    networks: list[Built]
    comparison: Comparison
    report: Path
    missing: list[str]


def demo(folder: Path, say: Say) -> Demo:
    """Compiles, checks and compares the shipped networks, and writes a report into ``folder``.

    Args:
        folder: made if it is not there.
        say: called with a line before each piece of work.

    Raises:
        HeadgateError: as compiling, loading and measuring do.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error("create", folder, error) from error
    missing: list[str] = []
    built = [_build(find_network(name), folder, say, missing) for name in NETWORKS]

    pixels, labels = sample_images()
    preprocess = built[0].network.preprocess
    assert preprocess is not None, "a shipped checkpoint has one"
    images = preprocess(pixels)
    say(f"timing the {len(built)} networks in turn on {len(pixels)} images")
    comparison = compare(
        [one.host for one in built],
        names=NETWORKS,
        images=images,
        labels=labels,
        accuracies={one.network.name: one.network.test_accuracy or 0.0 for one in built},
    )
    profiles = []
    for one in built:
        say(f"profiling {one.network.name} layer by layer")
        profiles.append(profile(one.host, images=images[:PROFILED_IMAGES]))
    say(f"counting the work for each of {len(pixels)} images")
    sources = {one.network.name: open_source(one.host) for one in built}
    efforts = measure_efforts(sources, images, labels)
    report = folder / "report.html"
    counts = {one.network.name: one.instructions for one in built if one.instructions}
    data = build_report(
        "ResNet-8 with gated channels",
        comparison=comparison,
        profiles=profiles,
        efforts=[efforts[name] for name, one in sources.items() if one.manifest["gates"]],
        instructions=counts,
        reproduce=["make demo"],
    )
    write_report(report, data)
    return Demo(built, comparison, report, missing)


def _build(network: Network, folder: Path, say: Say, missing: list[str]) -> Built:
    host, board = (folder / f"{network.name}-{target}.hgb" for target in ("host", BOARD))
    for path, target in ((host, "host"), (board, BOARD)):
        say(f"compiling {network.name} for {target}")
        compile_network(network, target).save(path)
    say(f"checking {network.name} against PyTorch")
    on_board = instructions = None
    try:
        on_board = validate(board, EMULATED_BOARD)
        instructions = count_instructions(board, machine=EMULATED_BOARD)
    except ToolMissing as error:
        if str(error) not in missing:
            missing.append(str(error))
    return Built(network, host, validate(host), on_board, instructions)
