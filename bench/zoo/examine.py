"""What is found out about one network, step by step."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import headgate
from bench.zoo.adapters import tensors
from bench.zoo.agreement import errors, random_inputs, run_torch, worst
from bench.zoo.network import Network
from bench.zoo.randomise import randomise
from bench.zoo.record import Record, fault
from bench.zoo.rounding import calm, self_agreement, steady
from bench.zoo.verdict import WRONG, half
from headgate.compile.front.example import RANDOM_VECTORS
from headgate.device import Bundle
from headgate.device.program import Program
from headgate.device.validation import validate
from headgate.errors import ModelError, WrongResult
from headgate.train.gates import find_convolutions, gates

DENSITY = 0.5
BOARD = "rpi4"
MORE_SAMPLES = 3
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def examine(network: Network, record: Record, folder: Path, emulate: bool) -> None:
    """Build, gate and compile a network, noting each finding.

    Bundles go to ``folder``. ``emulate`` compiles for a board too and runs that under QEMU.
    """
    torch.manual_seed(0)
    module = network.build().float()
    inputs = [torch.randn(1, *shape) for shape in network.shapes]
    randomise(module, inputs)
    halved = calm(module, _random(inputs, 1, seed=5))
    with torch.no_grad():
        outputs = list(tensors(module(*inputs)))
    record.note(
        halved=halved,
        parameters=sum(one.numel() for one in module.parameters()),
        outputs=[list(one.shape) for one in outputs],
        convolutions=sum(isinstance(one, _CONVOLUTIONS) for one in module.modules()),
        stage="gate",
    )
    gated = _gate(module, inputs, record)
    record.note(stage="dense")
    record.note(dense=_compile(module, inputs, folder))
    if gated is not None:
        record.note(stage="half")
        record.note(half=_compile(gated, inputs, folder))
        if half(record) == WRONG:
            record.note(stage="rounding")
            record.note(itself=self_agreement(gated, _compared(inputs)))
            record.note(steady=_compile(steady(gated), inputs, folder))
    if emulate:
        for key, one in (("dense", module), ("half", gated)):
            if one is not None:
                record.note(stage=f"{key} on {BOARD}")
                record.note(**{f"{key}_{BOARD}": _emulate(one, inputs, folder)})
    record.note(stage="end")


def _gate(module: nn.Module, inputs: list[Tensor], record: Record) -> nn.Module | None:
    """The network with gates; notes what is found, and what gates at density 1 change."""
    example = tuple(inputs)
    arrays = _random(inputs, 2, seed=3)
    try:
        found = find_convolutions(module, example)
        record.note(
            found=len(found),
            gateable=sum(one.obstacle is None for one in found.values()),
            obstacles=dict(Counter(one.obstacle for one in found.values() if one.obstacle)),
        )
        before = run_torch(module, arrays)
        add = partial(
            _with_gates, module, example, [path for path in found if not found[path].obstacle]
        )
        torch.manual_seed(1)
        gated = add(density=DENSITY)
        record.note(gated=len(gates(gated)))
        whole = add(density=1.0, predictor_std=0.0)
        record.note(
            at_one=worst(errors(run_torch(whole, arrays), before)),
            changed_by_gate=worst(errors(run_torch(module, arrays), before)),
        )
        record.note(
            moved_at_half=worst(errors(run_torch(gated, arrays), before)),
            gates_used=sum(one.last_gate is not None for one in gates(gated).values()),
        )
    except Exception as error:  # any exception is a finding
        record.note(gate_fault=fault(error))
        return None
    return gated.requires_grad_(False)


def _with_gates(
    module: nn.Module, example: tuple[Tensor, ...], gateable: list[str], **options: Any
) -> nn.Module:
    """FBS gates where ``gate`` puts them by itself; if that is nowhere, where it can."""
    try:
        gated = headgate.gate(module, example_input=example, **options)
    except ModelError:
        if not gateable:
            raise
        gated = headgate.gate(module, layers=gateable, example_input=example, **options)
    return gated.eval()


def _compile(module: nn.Module, inputs: list[Tensor], folder: Path) -> dict[str, Any]:
    """Compile for this machine, run, and compare with PyTorch on the bundle's vectors and more.

    What the compiler found wrong itself is compiled all the same, to see by how much.
    """
    begin = perf_counter()
    try:
        try:
            bundle, said = headgate.compile_module(module, tuple(inputs)), {}
        except WrongResult as error:
            bundle = headgate.compile_module(module, tuple(inputs), check=False)
            said = {"wrong_result": str(error)}
        seconds = perf_counter() - begin
        return {"seconds": round(seconds, 1), **said, **_measure(bundle, module, inputs, folder)}
    except Exception as error:  # any exception is a finding
        return {"seconds": round(perf_counter() - begin, 1), "fault": fault(error)}


def _measure(
    bundle: Bundle, module: nn.Module, inputs: list[Tensor], folder: Path
) -> dict[str, Any]:
    path = folder / "host.hgb"
    bundle.save(path)
    given, expected = bundle.vectors()
    more = _random(inputs, MORE_SAMPLES, seed=7)
    with headgate.load(path) as program:
        found = [*errors(_run(program, given), expected)]
        found += [*errors(_run(program, more), run_torch(module, more))]
        return {
            "bytes": path.stat().st_size,
            "arena_bytes": bundle.manifest["arena_bytes"],
            "dense_macs": int(program.dense_macs()),
            "executed_macs": float(np.mean(program.executed_macs())),
            "checked": bundle.manifest["checked"],
            "errors": [float(f"{one:.2g}") for one in found],
            "error": worst(np.array(found)),
        }


def _compared(inputs: list[Tensor]) -> list[NDArray[np.float32]]:
    """The inputs on which a bundle is compared: its own vectors, and more."""
    vectors, more = _random(inputs, RANDOM_VECTORS, seed=0), _random(inputs, MORE_SAMPLES, seed=7)
    return [np.concatenate(pair) for pair in zip(vectors, more, strict=True)]


def _emulate(module: nn.Module, inputs: list[Tensor], folder: Path) -> dict[str, Any]:
    path = folder / f"{BOARD}.hgb"
    try:
        headgate.compile_module(module, tuple(inputs), target=BOARD).save(path)
        return {"error": worst(np.array(validate(path, f"qemu:{BOARD}").max_error))}
    except Exception as error:  # any exception is a finding
        return {"fault": fault(error)}


def _run(program: Program, inputs: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    outputs = program.run(inputs if len(inputs) > 1 else inputs[0])
    if isinstance(outputs, dict):
        return list(outputs.values())
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


def _random(inputs: list[Tensor], count: int, seed: int) -> list[NDArray[np.float32]]:
    return random_inputs([one.shape[1:] for one in inputs], count, seed)
