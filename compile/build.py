"""From a fused graph to machine code for one target."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from headgate.compile.backend.c_source import Generated, Signature, generate
from headgate.compile.backend.link import link_runner, link_shared
from headgate.compile.backend.lower import write_object
from headgate.compile.front.graph import Graph
from headgate.compile.plan.selection import select_kernels
from headgate.compile.plan.steps import Program
from headgate.device import runtime_sources
from headgate.device.manifest import SHARED_OBJECT
from headgate.device.protocol import RUNNER, WEIGHTS
from headgate.device.targets import Target


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
    graph: Graph, target: Target, name: str, signature: Signature, *, shared: bool = True
) -> Built:
    """Compiles and links ``graph``, which has been fused.

    ``shared``: make the shared object too, not just the runner.

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
        code = {SHARED_OBJECT: link_shared(path, target)} if shared else {}
        code[RUNNER] = link_runner(path, target)
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


def describe_tensors(tensors: dict[str, tuple[int, ...]]) -> list[dict[str, Any]]:
    """The manifest's ``inputs`` or ``outputs``."""
    return [
        {"name": name, "shape": list(shape), "dtype": "float32"} for name, shape in tensors.items()
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
