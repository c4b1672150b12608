"""One bundle on one machine: where the time goes, and what the gates left out.

Whole-network and per-layer times come from separate runs, because the per-layer hook disturbs the
clock. Under an emulator there is no time to tell: the profile then has executed instructions.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headgate.device.agent import definitions
from headgate.device.bundle import Bundle
from headgate.device.program import Program
from headgate.errors import ToolMissing
from headgate.profiling.absent import NotMeasured, to_json
from headgate.profiling.context import Context, pinned, read_context
from headgate.profiling.instructions import InstructionCount, count_instructions
from headgate.profiling.source import Source, open_source
from headgate.profiling.statistics import Distribution, Summary, distribution, summarize, thin
from headgate.profiling.timing import BURST_WARMUP, fitting_rounds, time_burst

BURST_RUNS = 3
BUDGET_S = 4.0
EMULATED = "the wall time of an emulator says nothing about a device"


@dataclass(frozen=True)
class LayerProfile:
    """One layer; per-image lists follow the order of the images."""

    name: str
    operator: str
    is_gate: bool
    time_us: float | NotMeasured
    """Median over all runs of all images."""
    dense_macs: int
    done_macs: float
    """Mean over the images."""
    channels: int | None
    """What the gate decides on: output channels, or pixels times channels where it decides on
    each of them; None where the output is not gated."""
    active_channels: list[int] | None
    """How many of them were computed."""
    active_inputs: float | None
    """Mean share of input channels that were active, None where the input is not gated."""


@dataclass(frozen=True)
class Profile:
    """What :func:`profile` found out. ``to_json()`` gives plain data."""

    name: str
    machine: str
    target: str
    bundle_sha256: str
    images: int
    runs: int
    latency_us: Summary | NotMeasured
    latencies_us: list[float]
    """In the order taken, rounds over the images; thinned where there are thousands."""
    layers: list[LayerProfile]
    dense_macs: int
    done_macs: float
    """Mean over the images, the gates' own cost included."""
    macs_per_image: Distribution
    """Done MACs over the images."""
    gate_macs: float
    gate_time_us: float | NotMeasured
    """Sum of the medians of the layers that exist only because of gating."""
    layer_time_us: float | NotMeasured
    """Sum of the medians of all layers; above ``latency_us.median`` by what the hook costs."""
    instructions: InstructionCount | NotMeasured
    context: Context
    mac_convention: str
    warnings: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain data; a value that is missing is ``{"not_measured": reason}``."""
        return dict(to_json(self))


def profile(
    bundle: Bundle | str | Path,
    machine: str = "host",
    images: NDArray[np.float32] | None = None,
    repeat: int | None = None,
    threads: int = 1,
) -> Profile:
    """Measure one bundle.

    Args:
        bundle: A bundle or the path of one.
        machine: ``host``, or an emulated one such as ``qemu:rpi4``.
        images: Preprocessed input (N,C,H,W); the bundle's own test vectors when None.
        repeat: Timed rounds over the images, three runs each; as many as take about four
            seconds when None.
        threads: How many share the work of each layer.

    Raises:
        BundleError: The bundle is damaged or made for another machine.
        InputError: The images have the wrong shape or type.
    """
    source = open_source(bundle, machine, threads)
    chosen = source.vectors() if images is None else images
    instructions: InstructionCount | NotMeasured = NotMeasured(
        "counted for emulated machines only, for example qemu:rpi4"
    )
    if source.emulated:
        try:
            instructions = count_instructions(source.bundle, chosen[:1], machine=machine)
        except ToolMissing as missing:
            instructions = NotMeasured(str(missing))
    return profile_source(source, chosen, repeat, instructions)


def profile_source(
    source: Source,
    images: NDArray[np.float32],
    repeat: int | None,
    instructions: InstructionCount | NotMeasured,
) -> Profile:
    """Measure a bundle that is already loaded; see :func:`profile`."""
    source.program.run(images)
    counts = source.program.active_counts
    macs = source.program.layer_macs()
    whole, per_layer = np.empty(0), None
    # Several threads want a CPU each.
    with pinned() if source.program.threads == 1 else nullcontext() as cpu:
        if not source.emulated:
            whole, per_layer = _time(source.program, images, repeat)
        context = read_context(source.machine, bundles={source.name: source.sha256}, pinned_cpu=cpu)
    layers = _join(source.manifest, counts, macs.mean(axis=0), per_layer)
    latency = summarize(whole) if whole.size else NotMeasured(EMULATED)
    return Profile(
        name=source.name,
        machine=source.machine,
        target=source.manifest["target"]["name"],
        bundle_sha256=source.sha256,
        images=len(images),
        runs=int(whole.size),
        latency_us=latency,
        latencies_us=thin(whole),
        layers=layers,
        dense_macs=definitions.dense_macs(source.manifest["layers"]),
        done_macs=sum(layer.done_macs for layer in layers),
        macs_per_image=distribution(macs.sum(axis=1)),
        gate_macs=sum(layer.done_macs for layer in layers if layer.is_gate),
        gate_time_us=_total_time([layer for layer in layers if layer.is_gate], per_layer),
        layer_time_us=_total_time(layers, per_layer),
        instructions=instructions,
        context=context,
        mac_convention=definitions.CONVENTION,
        warnings=_warnings(latency, context),
    )


def _time(
    program: Program, images: NDArray[np.float32], repeat: int | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latencies of the whole network, and median microseconds per layer."""
    guess_us = float(np.median(time_burst(program, images[:1], BURST_RUNS)))
    rounds = repeat or fitting_rounds(guess_us, BURST_RUNS * len(images), BUDGET_S / 2)
    singles = [images[index : index + 1] for index in range(len(images))]
    whole = [time_burst(program, image, BURST_RUNS) for _ in range(rounds) for image in singles]
    hooked = [
        program.profile(image, repeat=BURST_RUNS, warmup=BURST_WARMUP)
        for _ in range(rounds)
        for image in singles
    ]
    return np.concatenate(whole), np.median(np.concatenate(hooked), axis=0)


def _join(
    manifest: Mapping[str, Any],
    counts: Mapping[str, NDArray[np.int32]],
    done: NDArray[np.float64],
    per_layer: NDArray[np.float64] | None,
) -> list[LayerProfile]:
    """The manifest's layers with what was seen of them."""

    def active(gate: int | None) -> NDArray[np.int32] | None:
        return None if gate is None else counts[manifest["gates"][gate]["name"]]

    rows = []
    for index, layer in enumerate(manifest["layers"]):
        inputs, outputs = active(layer["in_gate"]), active(layer["out_gate"])
        rows.append(
            LayerProfile(
                name=layer["name"],
                operator=layer["operator"],
                is_gate=definitions.is_gate(layer["operator"]),
                time_us=NotMeasured(EMULATED) if per_layer is None else float(per_layer[index]),
                dense_macs=int(layer["dense_macs"]),
                done_macs=float(done[index]),
                channels=(
                    None
                    if outputs is None
                    else int(manifest["gates"][layer["out_gate"]]["channels"])
                ),
                active_channels=None if outputs is None else outputs.tolist(),
                active_inputs=(
                    None
                    if inputs is None
                    else float(inputs.mean() / manifest["gates"][layer["in_gate"]]["channels"])
                ),
            )
        )
    return rows


def _total_time(
    layers: list[LayerProfile], per_layer: NDArray[np.float64] | None
) -> float | NotMeasured:
    if per_layer is None:
        return NotMeasured(EMULATED)
    return float(sum(layer.time_us for layer in layers if isinstance(layer.time_us, float)))


def _warnings(latency: Summary | NotMeasured, context: Context) -> list[str]:
    found = load_warnings(context)
    if isinstance(latency, Summary) and latency.drifted:
        found.append(
            f"the clock drifted: the last third of the runs took {latency.drift:+.1%} against the "
            "first; let the machine cool down or become idle, then repeat"
        )
    return found


def load_warnings(context: Context) -> list[str]:
    """Warnings about a machine that was busy, throttled or left to a power-saving governor."""
    found = []
    load = context.load_1min
    if isinstance(load, float) and load > context.cpu_count:
        found.append(
            f"the machine was busy: a load above its {context.cpu_count} CPUs; stop other "
            "programs, then repeat"
        )
    if isinstance(context.governor, str) and context.governor not in ("performance", "userspace"):
        found.append(
            f"the CPU governor is {context.governor!r}, not 'performance': clock and times vary"
        )
    if isinstance(context.throttled, str) and context.throttled not in ("0", "0x0"):
        found.append(f"the board reports throttling or low voltage (bits {context.throttled})")
    return found
