"""Whether a network fits a microcontroller's board, and what it would take there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headgate.device.agent import definitions
from headgate.device.agent.absent import NotMeasured
from headgate.device.bundle import Bundle
from headgate.device.footprint import Footprint, footprint
from headgate.device.manifest import Place, Plan
from headgate.device.microcontrollers import Microcontroller
from headgate.device.targets import get_target
from headgate.device.tensor_type import INT8
from headgate.errors import BundleError
from headgate.profiling.fit.advice import advise
from headgate.profiling.fit.emulate import Emulated, emulate
from headgate.profiling.fit.timeline import Peak, alive, find_peak


@dataclass(frozen=True)
class CycleModel:
    """What cycles are estimated with; ``name`` says what the number is of."""

    cycles_per_instruction: float
    clock_mhz: int
    name: str


@dataclass(frozen=True)
class Executed:
    """What some images made a layer or a network execute: means, and the most for one image.

    ``cycles`` and ``ms`` are estimates.
    """

    macs: int
    instructions: int
    most_instructions: int
    cycles: int
    ms: float

    @classmethod
    def of(
        cls, macs: NDArray[np.int64], instructions: NDArray[np.int64], model: CycleModel
    ) -> Executed:
        """Of numbers for each image."""
        mean = float(instructions.mean())
        cycles = model.cycles_per_instruction * mean
        return cls(
            macs=round(float(macs.mean())),
            instructions=round(mean),
            most_instructions=int(instructions.max()),
            cycles=round(cycles),
            ms=cycles / (1e3 * model.clock_mhz),
        )


@dataclass(frozen=True)
class LayerFit:
    """A step: its memory, its MACs for an image, and what it executes.

    ``arena_bytes`` are all that are in use during it, ``scratch_bytes`` those of its own.
    ``worst_macs``: with every gate at its most.
    """

    name: str
    operator: str
    weights_bytes: int
    arena_bytes: int
    scratch_bytes: int
    dense_macs: int
    worst_macs: int
    executed: Executed | NotMeasured


@dataclass(frozen=True)
class Analysis:
    """Whether a network fits a board: ``missing`` are the memories that are too small, and by how
    many bytes.

    ``machine`` ran ``images``; it is NotMeasured where none could.
    """

    network: str
    dtype: str
    board: Microcontroller
    fits: bool
    missing: dict[str, int]
    flash_bytes: int
    ram_bytes: int
    needs: Footprint
    machine: str | NotMeasured
    images: int
    cycle_model: CycleModel
    dense_macs: int
    worst_macs: int
    executed: Executed | NotMeasured
    peak: Peak
    layers: list[LayerFit]
    arena: list[Place]
    advice: list[str]


def analyze(bundle: Bundle, board: Microcontroller, images: NDArray[np.float32]) -> Analysis:
    """Of a bundle for the board's target; ``images`` (N, C, H, W) are run in QEMU.

    Raises:
        BundleError: it is for another target, or no microcontroller.
        DeviceError: the firmware fails.
    """
    if bundle.target["name"] != board.target:
        raise BundleError(
            f"{bundle.name!r} is compiled for {bundle.target['name']}, {board.name} is a "
            f"{board.target}; recompile with --target {board.target}"
        )
    return judge(bundle, board, footprint(bundle), emulate(bundle, images))


def judge(
    bundle: Bundle, board: Microcontroller, needs: Footprint, run: Emulated | NotMeasured
) -> Analysis:
    """The verdict on what was measured."""
    facts, plan = bundle.facts, bundle.facts.plan
    assert plan is not None
    needs = needs.with_stack(run if isinstance(run, NotMeasured) else run.stack_bytes)
    model = cycle_model(board, facts.dtype)
    layers = [_layer(bundle, plan, index, run, model) for index in range(len(facts.layers))]
    peak = find_peak(plan.buffers, len(layers))
    missing = needs.missing(board)
    return Analysis(
        network=bundle.name,
        dtype=facts.dtype,
        board=board,
        fits=not missing,
        missing=missing,
        flash_bytes=needs.flash_bytes,
        ram_bytes=needs.ram_bytes,
        needs=needs,
        machine=run if isinstance(run, NotMeasured) else run.machine,
        images=0 if isinstance(run, NotMeasured) else len(run.macs),
        cycle_model=model,
        dense_macs=definitions.dense_macs(bundle.manifest["layers"]),
        worst_macs=sum(layer.worst_macs for layer in layers),
        executed=run
        if isinstance(run, NotMeasured)
        else Executed.of(run.macs.sum(axis=1), run.instructions.sum(axis=1), model),
        layers=layers,
        peak=peak,
        arena=plan.buffers,
        advice=advise(facts, needs, board, peak, plan.weights_bytes),
    )


def cycle_model(board: Microcontroller, dtype: str) -> CycleModel:
    """That of the board's core, at its clock; one cycle an instruction where there is none.

    Models are of int8 networks.
    """
    target = get_target(board.target)
    known = target.cycles_per_instruction
    if known is None or dtype != INT8:
        name = f"one an instruction, as there is no model of the {target.name} in {dtype}"
        return CycleModel(1.0, board.clock_mhz, name)
    return CycleModel(known, board.clock_mhz, f"{known:g} an instruction, {target.cycle_model}")


def _layer(
    bundle: Bundle, plan: Plan, index: int, run: Emulated | NotMeasured, model: CycleModel
) -> LayerFit:
    layer, during = bundle.manifest["layers"][index], alive(plan.buffers, index)
    return LayerFit(
        name=layer["name"],
        operator=layer["operator"],
        weights_bytes=plan.weights_bytes[index],
        arena_bytes=sum(one.bytes for one in during),
        scratch_bytes=sum(one.bytes for one in during if one.scratch),
        dense_macs=layer["dense_macs"],
        worst_macs=_worst(layer, plan.most_active),
        executed=run
        if isinstance(run, NotMeasured)
        else Executed.of(run.macs[:, index], run.instructions[:, index], model),
    )


def _worst(layer: Mapping[str, Any], most: list[int]) -> int:
    """MACs with every gate at its most."""
    gates = (layer["in_gate"], layer["out_gate"])
    active = (None if gate is None else most[gate] for gate in gates)
    return int(definitions.executed_macs(layer, *active))
