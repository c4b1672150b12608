"""The compiler's front: from an ``nn.Module`` to a bundle."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from torch import nn

from headgate.compile.capture import capture
from headgate.compile.fuse import fuse
from headgate.compile.graph import Graph
from headgate.compile.link import link_runner, link_shared
from headgate.compile.lower import write_object
from headgate.compile.network import generate
from headgate.compile.selection import select_kernels
from headgate.compile.targets import get_target
from headgate.device import Bundle, runtime_sources
from headgate.errors import CompileError, InputError

TOLERANCE = 1e-4
"""Largest error allowed on a device, as a share of the largest output."""
RANDOM_VECTORS = 8
"""More than the five inputs that the agent measures energy with. They are stored: an image of
3 x 224 x 224 takes 0.6 MB, eight 4.8 MB, where ResNet-18's weights take 47 MB."""
_TOOLS = ("headgate", "torch", "apache-tvm", "ziglang", "numpy")


def compile_module(
    module: nn.Module,
    example_inputs: torch.Tensor | Sequence[torch.Tensor],
    *,
    target: str = "host",
    name: str | None = None,
    vectors: np.ndarray | Sequence[np.ndarray] | None = None,
    preprocess: Any = None,
    classes: Sequence[str] | None = None,
) -> Bundle:
    """Compiles a network, gated or not, to machine code for ``target``.

    Args:
        module: in evaluation mode; anything torch.export can trace, float32.
        example_inputs: one tensor for each input, (N, ...); the network is compiled for batch one.
        target: a name from ``headgate.compile.targets``.
        name: the network's name in reports; the class name by default.
        vectors: inputs (N, ...) stored with PyTorch's outputs, to validate the device with;
            a few random ones by default. One array for each input.
        preprocess: has ``mean`` and ``std`` per input channel, recorded in the bundle.
        classes: names of the outputs, recorded in the bundle.

    Raises:
        CompileError: the network cannot be traced, or its C parts cannot be linked.
        UnsupportedOperator: an operator that cannot be lowered; names its module.
        UsageError: no target has that name.
        InputError: ``vectors`` do not fit ``example_inputs``.

    Example::

        bundle = headgate.compile_module(model.eval(), torch.zeros(1, 3, 32, 32), target="rpi4")
        bundle.save("model.hgb")
    """
    row = get_target(target)
    examples = _as_tuple(example_inputs)
    samples = tuple(torch.as_tensor(e)[:1].detach().float().cpu() for e in examples)
    name = name or type(module).__name__.lower()
    graph = capture(module, samples)
    fuse(graph)
    program = select_kernels(graph, row)
    generated = generate(graph, program, name, target)
    with tempfile.TemporaryDirectory(prefix="headgate-") as folder:
        path = Path(folder)
        (path / "network.c").write_text(generated.source, encoding="utf-8")
        write_object(generated.functions, row, path / "kernels.o")
        code = {
            "code/network.so": link_shared(path, row),
            "code/runner": link_runner(path, row),
        }
    test_inputs = _vectors(vectors, samples)
    manifest = {
        "name": name,
        "target": {
            "name": row.name,
            "triple": row.triple,
            "arch": row.arch,
            "cpu": row.cpu,
            "features": list(row.features),
        },
        "tools": {tool: _version(tool) for tool in _TOOLS},
        "model_sha256": _model_hash(module, graph),
        "inputs": [_tensor(value.name, value.shape) for value in graph.inputs],
        "outputs": [_tensor(value.name, value.shape) for value in graph.outputs],
        "arena_bytes": generated.arena_bytes,
        "thread_bytes": generated.thread_bytes,
        "weights_bytes": generated.weights_bytes,
        "gates": generated.gates,
        "layers": [step.manifest() for step in program.steps],
        "preprocess": None
        if preprocess is None
        else {"mean": list(preprocess.mean), "std": list(preprocess.std)},
        "classes": list(classes) if classes is not None else None,
        "tolerance": TOLERANCE,
    }
    members = {
        **code,
        "include/network.h": (runtime_sources() / "headgate.h").read_bytes(),
        "weights.safetensors": generated.weights,
        "vectors.safetensors": _reference(module, test_inputs),
    }
    return Bundle(manifest, members)


def _as_tuple(inputs: torch.Tensor | Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    return (inputs,) if isinstance(inputs, torch.Tensor) else tuple(inputs)


def _tensor(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"name": name, "shape": list(shape), "dtype": "float32"}


def _vectors(
    vectors: np.ndarray | Sequence[np.ndarray] | None, samples: tuple[torch.Tensor, ...]
) -> list[np.ndarray]:
    """Test inputs, one array (N, ...) for each input of the network."""
    if vectors is None:
        random = np.random.default_rng(0)
        return [
            random.standard_normal((RANDOM_VECTORS, *s.shape[1:]), dtype=np.float32)
            for s in samples
        ]
    arrays = [vectors] if isinstance(vectors, np.ndarray) else list(vectors)
    arrays = [np.ascontiguousarray(a, np.float32) for a in arrays]
    for array, sample in zip(arrays, samples, strict=True):
        if array.shape[1:] != tuple(sample.shape[1:]):
            raise InputError(
                f"Test vectors have shape {array.shape}, the network's input "
                f"{tuple(sample.shape)}; give N arrays of {tuple(sample.shape[1:])}."
            )
    return arrays


def _reference(module: nn.Module, inputs: list[np.ndarray]) -> bytes:
    """PyTorch's answers to the test vectors, one sample at a time as the device runs them."""
    with torch.no_grad():
        rows = [
            module(*(torch.from_numpy(array[i : i + 1]) for array in inputs))
            for i in range(len(inputs[0]))
        ]
    rows = [row if isinstance(row, tuple | list) else (row,) for row in rows]
    for result in rows[0]:
        if not isinstance(result, torch.Tensor) or result.shape[:1] != (1,):
            kind = type(result).__name__
            found = tuple(result.shape) if isinstance(result, torch.Tensor) else f"a {kind}"
            raise CompileError(
                f"{type(module).__name__} returns {found} for one sample; headgate compiles "
                "networks that return a tensor (1, ...) or a tuple of those."
            )
    columns = list(zip(*rows, strict=True))
    tensors = {
        **_named("input", inputs),
        **_named("output", [torch.cat(c).contiguous().numpy() for c in columns]),
    }
    return safetensors.numpy.save(tensors)


def _named(stem: str, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
    if len(arrays) == 1:
        return {f"{stem}s": arrays[0]}
    return {f"{stem}{i}": array for i, array in enumerate(arrays)}


def _model_hash(module: nn.Module, graph: Graph) -> str:
    """Changes with the weights and with the network."""
    digest = hashlib.sha256()
    for node in graph.nodes:
        digest.update(f"{node.kind} {node.path} {node.output.shape}".encode())
        for key, value in sorted(node.attributes.items()):
            if isinstance(value, bool | int | float | str | tuple):
                digest.update(f"{key}={value}".encode())
    for key, tensor in sorted(module.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
