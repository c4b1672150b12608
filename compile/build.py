"""From a fused graph to machine code for one target."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from headgate.compile.backend import linux
from headgate.compile.backend.c_source import Generated, Signature, generate
from headgate.compile.backend.lower import write_object
from headgate.compile.front.graph import Graph
from headgate.compile.plan.select import select_kernels
from headgate.compile.plan.steps import Program
from headgate.device import runtime_sources
from headgate.device.protocol import WEIGHTS
from headgate.device.targets import Target
from headgate.device.tensor_type import TensorType


@dataclass(frozen=True)
class Built:
    """The code of a network: what its bundle holds beside the test vectors."""

    program: Program
    generated: Generated
    members: dict[str, bytes]

    def manifest(self) -> dict[str, Any]:
        """The keys of the manifest that follow from the code."""
        generated = self.generated
        return {
            "arena_bytes": generated.arena_bytes,
            "thread_bytes": generated.thread_bytes,
            "weights_bytes": generated.weights_bytes,
            "gates": generated.gates,
            "layers": [step.manifest() for step in self.program.steps],
        }


def build(
    graph: Graph,
    target: Target,
    name: str,
    signature: Signature,
    *,
    kinds: Collection[str] | None = None,
) -> Built:
    """Compiles and links ``graph``, which has been fused.

    ``kinds``: the kinds of artifact to link, None: all that the target's system has.

    Raises:
        UnsupportedOperator: a node that cannot be lowered.
        CompileError: the C parts cannot be linked.
    """
    program = select_kernels(graph, target)
    generated = generate(graph, program, name, target.name, signature)
    with tempfile.TemporaryDirectory(prefix="headgate-") as folder:
        path = Path(folder)
        (path / "network.c").write_text(generated.source, encoding="utf-8")
        write_object(generated.functions, target, path / "kernels.o")
        code = {
            artifact.member: artifact.link(path, target)
            for artifact in linux.ARTIFACTS
            if kinds is None or artifact.kind in kinds
        }
    members = {
        **code,
        "include/network.h": (runtime_sources("core") / "headgate.h").read_bytes(),
        WEIGHTS: generated.weights,
    }
    return Built(program, generated, members)


def describe_target(target: Target) -> dict[str, Any]:
    """The manifest's ``target``."""
    return {
        "name": target.name,
        "triple": target.triple,
        "arch": target.arch,
        "cpu": target.cpu,
        "features": list(target.features),
    }


def describe_tensors(tensors: dict[str, TensorType]) -> list[dict[str, Any]]:
    """The manifest's ``inputs`` or ``outputs``."""
    return [{"name": name, **tensor.manifest()} for name, tensor in tensors.items()]


def save_vectors(inputs: list[np.ndarray], outputs: list[np.ndarray]) -> bytes:
    """The bundle's ``vectors.safetensors``."""
    named: dict[str, np.ndarray] = {}
    for stem, arrays in (("input", inputs), ("output", outputs)):
        if len(arrays) == 1:
            named[f"{stem}s"] = arrays[0]
        else:
            named |= {f"{stem}{index}": array for index, array in enumerate(arrays)}
    return safetensors.numpy.save({name: np.ascontiguousarray(a) for name, a in named.items()})
