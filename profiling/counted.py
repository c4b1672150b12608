"""Several bundles and ``.tflite`` files on one emulated board: outputs and instruction counts.

The counterpart of :mod:`headgate.profiling.compare` where there is no clock to believe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headgate.device.agent import definitions
from headgate.device.agent.absent import NotMeasured, to_json
from headgate.device.machines.qemu_user import CPUS
from headgate.errors import InputError, ToolMissing, UsageError
from headgate.profiling.compare import check_names, choose
from headgate.profiling.instructions import count_instructions
from headgate.profiling.source import Source, open_source

CONVENTION = (
    "Executed instructions of one inference of the first image, counted under QEMU's user mode: "
    "what a third run of it added to two; exact where the second had added as many. LiteRT's "
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


@dataclass(frozen=True)
class CountedComparison:
    """What :func:`compare_counted` found out. ``to_json()`` gives plain data."""

    machine: str
    cpu: str
    baseline: str
    images: int
    standings: list[CountedStanding]
    convention: str
    mac_convention: str

    def to_json(self) -> dict[str, Any]:
        """Plain data; a value that is missing is ``{"not_measured": reason}``."""
        return dict(to_json(self))

    def __getitem__(self, name: str) -> CountedStanding:
        for standing in self.standings:
            if standing.name == name:
                return standing
        raise KeyError(name)


@dataclass(frozen=True)
class _Contestant:
    name: str
    kind: str
    sha256: str
    outputs: NDArray[np.float32]
    instructions: int | NotMeasured
    exact: bool
    dense_macs: int
    executed_macs: int


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
        images: Preprocessed input (N,C,H,W); the first bundle's test vectors when None.
        labels: True classes of the images (N,), for the accuracy on them.
        baseline: Name of the contestant that ratios refer to; the first dense bundle when None.

    Raises:
        UsageError: No files, two of the same name, an unknown baseline, a file of a peer that
            has no emulated form.
        InputError: No bundle to take images from, and none given.
        ToolMissing: QEMU or LiteRT for arm64 is not here.
        BundleError: A bundle is for another target.
    """
    paths = [Path(file) for file in files]
    sources = {path: open_source(path, machine) for path in paths if path.suffix == ".hgb"}
    if images is None:
        if not sources:
            raise InputError("no bundle to take test images from: give images (--images sample)")
        images = next(iter(sources.values())).vectors()
    names = [_name(path) for path in paths]
    check_names(names)
    contestants = [
        _bundle(sources[path], images, machine)
        if path in sources
        else _tflite(path, name, images, machine)
        for path, name in zip(paths, names, strict=True)
    ]
    base = choose(contestants, baseline)
    return CountedComparison(
        machine=machine,
        cpu=CPUS[machine.removeprefix("qemu:")],
        baseline=base.name,
        images=len(images),
        standings=[_standing(one, base, labels) for one in contestants],
        convention=CONVENTION,
        mac_convention=definitions.CONVENTION,
    )


def _name(path: Path) -> str:
    if path.suffix == ".hgb":
        return path.stem
    if path.suffix == ".tflite":
        return f"{path.stem} on LiteRT"
    raise UsageError(f"{path}: only .hgb and .tflite files run on emulated boards")


def _bundle(source: Source, images: NDArray[np.float32], machine: str) -> _Contestant:
    outputs = source.program.scores(images)
    done = int(source.program.executed_macs()[0])
    instructions: int | NotMeasured
    try:
        count = count_instructions(source.bundle, images[:1], machine=machine)
        instructions, exact = count.instructions, count.exact
    except ToolMissing as missing:
        instructions, exact = NotMeasured(str(missing)), False
    kind = "gated" if source.manifest["gates"] else "dense"
    dense = definitions.dense_macs(source.manifest["layers"])
    return _Contestant(source.name, kind, source.sha256, outputs, instructions, exact, dense, done)


def _tflite(path: Path, name: str, images: NDArray[np.float32], machine: str) -> _Contestant:
    from headgate.profiling.peers.emulated import EmulatedLiteRT

    network = EmulatedLiteRT(path, machine)
    outputs = network.run(images)
    instructions: int | NotMeasured
    try:
        count = network.count(images[:1])
        instructions, exact = count.instructions, count.exact
    except ToolMissing as missing:
        instructions, exact = NotMeasured(str(missing)), False
    macs = int(network.manifest["dense_macs"])
    return _Contestant(name, "peer", network.sha256, outputs, instructions, exact, macs, macs)


def _standing(
    one: _Contestant, base: _Contestant, labels: NDArray[np.integer[Any]] | None
) -> CountedStanding:
    top1 = one.outputs.reshape(len(one.outputs), -1).argmax(axis=1)
    base_top1 = base.outputs.reshape(len(top1), -1).argmax(axis=1)
    return CountedStanding(
        name=one.name,
        kind=one.kind,
        sha256=one.sha256,
        instructions=one.instructions,
        exact=one.exact,
        fewer=_fewer(base.instructions, one.instructions),
        dense_macs=one.dense_macs,
        executed_macs=one.executed_macs,
        per_mac=(
            one.instructions
            if isinstance(one.instructions, NotMeasured)
            else one.instructions / one.executed_macs
        ),
        macs_saved=definitions.macs_saved(one.executed_macs, base.dense_macs),
        top1_agreement=float((top1 == base_top1).mean()),
        accuracy_on_images=(
            NotMeasured("the images came without labels")
            if labels is None
            else float((top1 == labels).mean())
        ),
    )


def _fewer(base: int | NotMeasured, own: int | NotMeasured) -> float | NotMeasured:
    if isinstance(own, NotMeasured):
        return own
    return base if isinstance(base, NotMeasured) else base / own
