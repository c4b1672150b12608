"""Several bundles and ``.tflite`` files on one emulated board: outputs and instruction counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headgate.device.agent import definitions
from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.report import InstructionCount
from headgate.device.bundle_folder import is_bundle
from headgate.device.machines.find import find_machine
from headgate.device.machines.qemu_system import QemuSystem
from headgate.device.machines.qemu_user import Qemu
from headgate.device.program import Program
from headgate.device.targets import get_target
from headgate.errors import InputError, UsageError
from headgate.profiling.comparison import Contestant, agreement, check_names, choose
from headgate.profiling.instructions import Totals, count_instructions
from headgate.profiling.missing import Result, derive, figure, unless_missing
from headgate.profiling.peers.emulated import EmulatedLiteRT
from headgate.profiling.source import open_source, refuse_board

CONVENTION = (
    "Executed instructions of one inference of the first image, counted under QEMU's user mode: "
    "what a third run of it added to two; exact where the second had added as many. Those of "
    "microcontrollers are told by the clock of QEMU's board, whose ticks are up to fifty. LiteRT's "
    "include Python's call (some thousands). Instructions are not a time, and the emulator's time "
    "says nothing about a device. Fewer = baseline's instructions / contestant's. MACs saved = 1 - "
    "executed MACs / baseline's dense MACs."
)


@dataclass(frozen=True)
class CountedStanding:
    """How one contestant did."""

    name: str
    kind: str
    """``dense``, ``gated`` or ``peer``."""
    sha256: str
    instructions: int | NotMeasured
    exact: bool
    fewer: float | NotMeasured
    """Baseline's instructions / own."""
    dense_macs: int
    executed_macs: int
    """Of the first image."""
    per_mac: float | NotMeasured
    """Instructions per executed MAC."""
    macs_saved: float
    top1_agreement: float
    """Share of the images where the largest output is the baseline's."""
    accuracy_on_images: float | NotMeasured
    dtype: str = "float32"


@dataclass(frozen=True)
class CountedComparison(Result):
    """What :func:`compare_counted` found out."""

    machine: str
    cpu: str
    baseline: str
    images: int
    standings: list[CountedStanding]
    convention: str
    mac_convention: str

    def __getitem__(self, name: str) -> CountedStanding:
        return {one.name: one for one in self.standings}[name]


def compare_counted(
    files: Sequence[str | Path],
    machine: str,
    *,
    images: NDArray[np.float32] | None = None,
    labels: NDArray[np.integer[Any]] | None = None,
    baseline: str | None = None,
) -> CountedComparison:
    """Run several programs on an emulated board and count their instructions.

    Args:
        files: Bundles (``.hgb``) for the board's target, and ``.tflite`` files.
        machine: Such as ``qemu:rpi4``.
        images, labels, baseline: As for :func:`headgate.profiling.compare`.

    Raises:
        UsageError: No files, two of the same name, an unknown baseline, a file of a peer that
            has no emulated form, a machine that is not emulated.
        InputError: No bundle to take images from, and none given.
        ToolMissing: QEMU or LiteRT for arm64 is not here.
        BundleError: A bundle is for another target.
    """
    refuse_board(machine)
    if not isinstance(find_machine(machine), (Qemu, QemuSystem)):
        raise UsageError(
            f"{machine} holds one network at a time: flash each, then headgate profile F --on "
            f"{machine} -o F.json, and headgate report with these files compares them"
        )
    paths = [Path(file) for file in files]
    sources = {path: open_source(path, machine) for path in paths if is_bundle(path)}
    if images is None:
        if not sources:
            raise InputError("no bundle to take test images from: give images (--images sample)")
        images = next(iter(sources.values())).vectors()
    names = [_name(path) for path in paths]
    check_names(names)
    contestants = [
        Contestant.of_bundle(sources[path]) if path in sources else _tflite(path, name, machine)
        for path, name in zip(paths, names, strict=True)
    ]
    base = choose(contestants, baseline)
    scores = {one.name: one.scores(images) for one in contestants}
    counts = {
        one.name: unless_missing(_count, one.program, images[:1], machine) for one in contestants
    }
    target = get_target(machine.removeprefix("qemu:"))
    return CountedComparison(
        machine=machine,
        cpu=target.qemu or target.cpu,
        baseline=base.name,
        images=len(images),
        standings=[
            _standing(one, base, counts, agreement(scores[one.name], scores[base.name], labels))
            for one in contestants
        ],
        convention=CONVENTION,
        mac_convention=definitions.CONVENTION,
    )


def _name(path: Path) -> str:
    if is_bundle(path):
        return path.stem or path.resolve().name
    if path.suffix == ".tflite":
        return f"{path.stem} on LiteRT"
    raise UsageError(f"{path}: only .hgb and .tflite files run on emulated boards")


def _tflite(path: Path, name: str, machine: str) -> Contestant:
    network = EmulatedLiteRT(path, machine)
    macs = int(network.manifest["dense_macs"])
    dtype = network.manifest.get("quantization") or "float32"
    return Contestant(name, network, "peer", network.sha256, macs, dtype=dtype)


def _count(program: Any, image: NDArray[np.float32], machine: str) -> InstructionCount | Totals:
    if isinstance(program, Program):
        return count_instructions(program.bundle, image, machine=machine)
    totals: Totals = program.count(image)
    return totals


def _standing(
    one: Contestant,
    base: Contestant,
    counts: Mapping[str, InstructionCount | Totals | NotMeasured],
    agreed: Mapping[str, Any],
) -> CountedStanding:
    instructions, of_base = (figure(counts[name], "instructions") for name in (one.name, base.name))
    assert one.dense_macs is not None and base.dense_macs is not None
    done = one.dense_macs
    if isinstance(one.program, Program):
        done = int(one.program.executed_macs()[0])
    return CountedStanding(
        name=one.name,
        kind=one.kind,
        sha256=one.sha256,
        instructions=instructions,
        exact=figure(counts[one.name], "exact") is True,
        fewer=derive(lambda own, base: base / own, instructions, of_base),
        dense_macs=one.dense_macs,
        executed_macs=done,
        per_mac=derive(lambda count: count / done, instructions),
        macs_saved=definitions.macs_saved(done, base.dense_macs),
        dtype=one.dtype,
        **agreed,
    )
