"""One ``.tflite`` file on one machine, as a whole: LiteRT shows no layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headgate.device.agent.absent import NotMeasured, to_json
from headgate.device.agent.context import Context
from headgate.device.agent.latency import EMULATED
from headgate.device.agent.percentiles import Summary, summarize
from headgate.device.agent.report import NOT_COUNTED
from headgate.errors import ToolMissing
from headgate.profiling.context import pinned, read_context, warnings_between
from headgate.profiling.peers import EmulatedLiteRT, LiteRT, open_tflite
from headgate.profiling.profile import BUDGET_S
from headgate.profiling.timing import BURST_RUNS, fitting_rounds, time_burst


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
    rounds: list[list[float]] = []
    packages = network.packages if isinstance(network, LiteRT) else ()
    instructions: int | NotMeasured = NOT_COUNTED
    if isinstance(network, EmulatedLiteRT):
        try:
            instructions = network.count(images[:1]).instructions
        except ToolMissing as missing:
            instructions = NotMeasured(str(missing))
    before = read_context(packages)
    if isinstance(network, LiteRT):
        with pinned():
            rounds = _time(network, images, repeat)
    macs = network.manifest["dense_macs"]
    return TFLiteProfile(
        name=path.stem,
        machine=machine,
        sha256=network.sha256,
        file_bytes=path.stat().st_size,
        quantization=network.manifest["quantization"],
        images=len(images),
        runs=sum(map(len, rounds)),
        latency_us=summarize(rounds) if rounds else EMULATED,
        instructions=instructions,
        dense_macs=NotMeasured("the file does not tell") if macs is None else int(macs),
        context=before,
        warnings=warnings_between(before, read_context()) if rounds else [],
    )


def _time(network: LiteRT, images: NDArray[np.float32], repeat: int | None) -> list[list[float]]:
    """Microseconds of every run, by round."""
    guess_us = float(np.median(time_burst(network, images[:1], BURST_RUNS)))
    rounds = repeat or fitting_rounds(guess_us, BURST_RUNS * len(images), BUDGET_S)
    singles = [images[index : index + 1] for index in range(len(images))]
    return [
        [float(us) for image in singles for us in time_burst(network, image, BURST_RUNS)]
        for _ in range(rounds)
    ]
