"""One ``.tflite`` file on one machine, as a whole: LiteRT shows no layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headgate.errors import ToolMissing
from headgate.profiling.absent import NotMeasured, to_json
from headgate.profiling.context import Context, pinned, read_context
from headgate.profiling.peers import EmulatedLiteRT, LiteRT, open_tflite
from headgate.profiling.profile import BUDGET_S, BURST_RUNS, EMULATED, load_warnings
from headgate.profiling.statistics import Summary, summarize
from headgate.profiling.timing import fitting_rounds, time_burst


@dataclass(frozen=True)
class TFLiteProfile:
    """What :func:`profile_tflite` found out. ``to_json()`` gives plain data."""

    name: str
    machine: str
    sha256: str
    file_bytes: int
    quantization: str | None
    images: int
    runs: int
    latency_us: Summary | NotMeasured
    instructions: int | NotMeasured
    """Of one inference of the first image."""
    dense_macs: int | NotMeasured
    context: Context
    warnings: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain data; a value that is missing is ``{"not_measured": reason}``."""
        return dict(to_json(self))


def profile_tflite(
    path: Path,
    machine: str = "host",
    images: NDArray[np.float32] | None = None,
    repeat: int | None = None,
) -> TFLiteProfile:
    """Measure one file on one thread.

    Args:
        path: What ``headgate compile --backend tflite`` wrote, or on this machine any file with
            one image as input and one output.
        machine: ``host``, where it is timed, or an emulated board such as ``qemu:rpi4``, where
            instructions are counted.
        images: Preprocessed input (N,C,H,W); one random image when None.
        repeat: Timed rounds over the images, three runs each; as many as take about two
            seconds when None.

    Raises:
        HeadgateError: As :func:`headgate.profiling.peers.open_tflite`.
    """
    network = open_tflite(path, machine)
    if images is None:
        shape = network.manifest["inputs"][0]["shape"]
        images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    runs = np.empty(0)
    packages: tuple[str, ...] = ()
    instructions: int | NotMeasured = NotMeasured(
        "counted for emulated machines only, for example qemu:rpi4"
    )
    if isinstance(network, EmulatedLiteRT):
        try:
            instructions = network.count(images[:1]).instructions
        except ToolMissing as missing:
            instructions = NotMeasured(str(missing))
    with pinned() as cpu:
        if isinstance(network, LiteRT):
            packages = network.packages
            runs = _time(network, images, repeat)
        context = read_context(
            machine, packages=packages, bundles={path.stem: network.sha256}, pinned_cpu=cpu
        )
    macs = network.manifest["dense_macs"]
    return TFLiteProfile(
        name=path.stem,
        machine=machine,
        sha256=network.sha256,
        file_bytes=path.stat().st_size,
        quantization=network.manifest["quantization"],
        images=len(images),
        runs=int(runs.size),
        latency_us=summarize(runs) if runs.size else NotMeasured(EMULATED),
        instructions=instructions,
        dense_macs=NotMeasured("the file does not tell") if macs is None else int(macs),
        context=context,
        warnings=load_warnings(context) if runs.size else [],
    )


def _time(network: LiteRT, images: NDArray[np.float32], repeat: int | None) -> NDArray[np.float64]:
    guess_us = float(np.median(time_burst(network, images[:1], BURST_RUNS)))
    rounds = repeat or fitting_rounds(guess_us, BURST_RUNS * len(images), BUDGET_S / 2)
    bursts = [
        time_burst(network, images[index : index + 1], BURST_RUNS)
        for _ in range(rounds)
        for index in range(len(images))
    ]
    return np.concatenate(bursts)
