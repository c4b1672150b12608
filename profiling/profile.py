"""One bundle on one machine, measured by the agent; under an emulator QEMU counts, too."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headgate.device.agent.report import Report
from headgate.device.agent.settings import Settings
from headgate.device.bundle import Bundle
from headgate.device.files import storage_error
from headgate.device.machines.find import find_machine
from headgate.device.manifest import library_of
from headgate.device.protocol import RUNNER
from headgate.errors import BundleError, InputError
from headgate.profiling.instructions import count_instructions
from headgate.profiling.missing import unless_missing

BUDGET_S = 2.0
"""On this machine, where somebody waits: for the whole, and again for the layers."""


def profile(
    bundle: Bundle | str | Path,
    machine: str = "host",
    images: NDArray[np.float32] | None = None,
    repeat: int | None = None,
    threads: int = 1,
) -> Report:
    """Measure one bundle.

    Args:
        bundle: A bundle or the path of one.
        machine: ``host``, an emulated one such as ``qemu:rpi4``, or a board.
        images: Preprocessed input (N,C,H,W); the bundle's own test vectors when None.
        repeat: Timed rounds over the images; some that take about four seconds when None.

    Raises:
        BundleError: The bundle is damaged or made for another machine.
        InputError: The images have the wrong shape or type, or the machine is a board.
        UsageError: There is no such machine, or it has too few CPUs.
        DeviceError: The network fails, or the board cannot be reached.
    """
    return measure(bundle, machine, Settings(threads=threads, rounds=repeat), images)


def measure(
    bundle: Bundle | str | Path,
    machine: str,
    settings: Settings,
    images: NDArray[np.float32] | None = None,
) -> Report:
    """As :func:`profile`, with everything that the agent can be told."""
    chosen = find_machine(machine)
    if chosen.is_board and images is not None:
        raise InputError(f"{machine} measures on the bundle's own test vectors; give no images")
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    if not chosen.is_board:
        chosen.check(opened)
    if RUNNER not in opened.members and library_of(opened.members) is None:
        raise BundleError(f"{opened.name!r} has no {RUNNER}; recompile it")
    if settings.budget_s is None and not chosen.is_board:
        settings = dataclasses.replace(settings, budget_s=BUDGET_S)
    with tempfile.TemporaryDirectory(prefix="headgate-") as folder:
        inputs = [] if images is None else [_write(images, opened, Path(folder) / "images")]
        path = Path(folder) / f"{opened.name}.hgb"
        if isinstance(bundle, Bundle):
            bundle.save(path)
        else:
            path = Path(bundle)
        report = chosen.measure(path, settings, inputs)
    if chosen.is_board:
        return report
    name = opened.name if isinstance(bundle, Bundle) else path.stem
    report = dataclasses.replace(report, bundle=dataclasses.replace(report.bundle, name=name))
    if not chosen.emulated:
        return report
    first = None if images is None else images[:1]
    counted = unless_missing(count_instructions, opened, first, machine=machine)
    return dataclasses.replace(report, instructions=counted)


def _write(images: NDArray[np.float32], bundle: Bundle, path: Path) -> Path:
    """The images as the agent reads them, after a look at their shape and type."""
    wanted = [tuple(tensor["shape"][1:]) for tensor in bundle.manifest["inputs"]]
    if images.dtype != np.float32 or [images.shape[1:]] != wanted or not len(images):
        shapes = ", ".join(f"(N, {str(shape)[1:-1]})" for shape in wanted)
        raise InputError(
            f"{bundle.name!r} takes float32 {shapes}, the images are {images.dtype} {images.shape}"
        )
    try:
        images.astype("<f4").tofile(path)
    except OSError as error:
        raise storage_error("write", path, error) from error
    return path
