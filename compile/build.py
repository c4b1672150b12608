"""From a fused graph to machine code for one target."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from tvm.target import Target as TvmTarget

from headgate.compile.backend import baremetal, linux
from headgate.compile.backend.c_source import generate
from headgate.compile.backend.lower import write_object
from headgate.compile.front.graph import Graph, Node
from headgate.compile.plan.describe import describe_plan
from headgate.compile.plan.select import select_kernels
from headgate.device.manifest import SHARED_OBJECT
from headgate.device.protocol import RUNNER
from headgate.device.targets import Target
from headgate.device.tensor_type import TensorType


def build(
    graph: Graph,
    target: Target,
    name: str,
    inputs: Sequence[str],
    outputs: Sequence[str] | None,
    *,
    code: Collection[str] = (SHARED_OBJECT, RUNNER),
    single: Collection[Node] = (),
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Compiles and links ``graph``, which has been fused; names as for ``generate``.

    Returns the manifest's keys that follow from the code, and what a bundle holds beside the test
    vectors. ``code``: those of the members to link that are for Linux; ``single``: the nodes that
    stay float32 among others.

    Raises:
        UnsupportedOperator: a node that cannot be lowered.
        CompileError: the C parts cannot be linked.
    """
    program = select_kernels(graph, target, single)
    backend = baremetal if target.os == "none" else linux
    prefix = backend.c_name(name)
    with TvmTarget(target.llvm()):
        generated = generate(graph, program, name, target.name, inputs, outputs, prefix)
    with tempfile.TemporaryDirectory(prefix="headgate-") as folder:
        path = Path(folder)
        (path / "network.c").write_text(generated.source, encoding="utf-8")
        write_object(generated.functions, target, path / "kernels.o")
        members = backend.link(path, target, name, generated, code)
    layers = [step.manifest() for step in program.steps]
    plan = {"plan": describe_plan(program)} if target.os == "none" else {}
    return {**generated.manifest, "layers": layers, **plan}, members


def describe_target(target: Target) -> dict[str, Any]:
    """The manifest's ``target``."""
    plain = {key: getattr(target, key) for key in ("name", "triple", "arch", "cpu")}
    return {**plain, "features": list(target.features)}


def describe_tensors(names: Sequence[str], arrays: list[np.ndarray]) -> list[dict[str, Any]]:
    """The manifest's ``inputs`` or ``outputs``, of which arrays (N, ...) are given."""
    return [
        {"name": name, **TensorType.of(array[:1]).manifest()}
        for name, array in zip(names, arrays, strict=True)
    ]


def save_vectors(inputs: list[np.ndarray], outputs: list[np.ndarray]) -> bytes:
    """The bundle's ``vectors.safetensors``."""
    named: dict[str, np.ndarray] = {}
    for stem, arrays in (("input", inputs), ("output", outputs)):
        if len(arrays) == 1:
            named[f"{stem}s"] = arrays[0]
        else:
            named |= {f"{stem}{index}": array for index, array in enumerate(arrays)}
    return safetensors.numpy.save({name: np.ascontiguousarray(a) for name, a in named.items()})
