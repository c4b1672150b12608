"""One ``.tflite`` file on one machine, as a whole: LiteRT shows no layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.context import Context
from headgate.device.agent.latency import EMULATED
from headgate.device.agent.percentiles import Summary, summarize
from headgate.device.agent.report import NOT_COUNTED
from headgate.profiling.missing import Result, figure, unless_missing
from headgate.profiling.peers import LiteRT, open_tflite
from headgate.profiling.profile import BUDGET_S
from headgate.profiling.timing import pinned, read_context, time_in_turn, warnings_between


@dataclass(frozen=True)
class TFLiteProfile(Result):
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
        repeat: Timed rounds over the images; as many as take about two seconds when None.

    Raises:
        HeadgateError: As :func:`headgate.profiling.peers.open_tflite`.
    """
    network = open_tflite(path, machine)
    if images is None:
        shape = network.manifest["inputs"][0]["shape"]
        images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    rounds: list[list[float]] = []
    if isinstance(network, LiteRT):
        instructions: int | NotMeasured = NOT_COUNTED
        before = read_context(network.packages)
        with pinned():
            (rounds,) = time_in_turn([network], images, repeat, BUDGET_S)
    else:
        instructions = figure(unless_missing(network.count, images[:1]), "instructions")
        before = read_context()
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
