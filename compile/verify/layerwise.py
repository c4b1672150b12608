"""Every layer held against PyTorch by itself, to find the one that computes something else.

Each is compared with what PyTorch makes of *the inputs that this layer had*, so one wrong layer, or
a decision that fell otherwise by rounding, does not count against those behind it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from headgate.compile.backend.c_source import TRACE
from headgate.compile.build import build, describe_tensors, save_vectors
from headgate.compile.front.graph import Graph, Node, Value
from headgate.compile.front.half import cast
from headgate.device import Bundle
from headgate.device.manifest import VECTORS
from headgate.device.protocol import RUNNER
from headgate.device.targets import Target
from headgate.device.tensor_type import FLOAT16, FLOAT32

EXACT = 1e-5
"""A layer that is right is nearer to PyTorch than this; what is left is the order of sums."""
HALF = 1e-2
"""The same of float16, whose products are summed with 11 bits: 6e-3 is the most that was seen."""
FEW_DECISIONS = 0.01
"""Share of a pixel gate's numbers that may be decided otherwise because of rounding."""


@dataclass(frozen=True)
class Difference:
    """How far one layer is from PyTorch: the largest error as a share of its result's scale."""

    path: str
    operator: str
    error: float


class Trace:
    """A second program of a fused graph, from which every layer's result comes back."""

    def __init__(self, graph: Graph, target: Target, bundle: Bundle) -> None:
        halves = [node.output for node in graph.nodes if node.output.dtype == FLOAT16]
        casts = [cast(value, f"{value.name}.traced", FLOAT32) for value in halves]
        kept = {node.output: node.output for node in graph.nodes if node.output.dtype == FLOAT32}
        kept |= {node.inputs[0]: node.output for node in casts}
        self._layers, self._values = list(kept), [*kept.values(), *graph.outputs]
        traced = Graph(graph.inputs, [*graph.nodes, *casts], self._values)
        names = [tensor["name"] for tensor in bundle.manifest["inputs"]]
        about, members = build(traced, target, bundle.name, names, None, code=(RUNNER,))
        nothing = [np.zeros((1, sum(value.size for value in self._values)), np.float32)]
        vectors = save_vectors([array[:1] for array in bundle.vectors()[0]], nothing)
        self.bundle = Bundle(
            {**bundle.manifest, **about, "outputs": describe_tensors([TRACE], nothing)},
            {**members, VECTORS: vectors},
        )

    def split(self, trace: np.ndarray) -> tuple[dict[Value, np.ndarray], list[np.ndarray]]:
        """What one run brought back: each layer's result, and those of the network."""
        ends = np.cumsum([value.size for value in self._values])
        parts = np.split(trace.reshape(-1), ends[:-1])
        arrays = [part.reshape(v.shape) for part, v in zip(parts, self._values, strict=True)]
        count = len(self._layers)
        return dict(zip(self._layers, arrays[:count], strict=True)), arrays[count:]


def layer_differences(
    graph: Graph,
    inputs: list[np.ndarray],
    results: Mapping[Value, np.ndarray],
    exact: float = EXACT,
) -> list[Difference]:
    """Each layer's difference from PyTorch, in order of execution.

    ``results`` are what a program of the fused ``graph`` made of ``inputs``, each (1, ...);
    ``exact``: what rounding may make of a number.
    """
    given = dict(zip(graph.inputs, inputs, strict=True)) | dict(results)
    known = {
        graph.origins[value]: torch.from_numpy(array.copy())
        for value, array in given.items()
        if value in graph.origins
    }
    layers = Layers(graph.module)
    found = []
    for node in graph.nodes:
        value = node.output
        if value in results and value in graph.origins:
            wanted = graph.origins[value]
            others = {origin: tensor for origin, tensor in known.items() if origin is not wanted}
            error = _error(results[value], layers.compute(wanted, others))
            if node.kind == "pixel_gated_conv2d" and not error <= exact:
                error = _pixel_gated_error(node, results[value], layers, wanted, others, exact)
            found.append(
                Difference(node.path, str(node.attributes.get("operator") or node.kind), error)
            )
    return found


def _pixel_gated_error(
    node: Node,
    got: np.ndarray,
    layers: Layers,
    wanted: fx.Node,
    known: Mapping[fx.Node, Tensor],
    exact: float,
) -> float:
    """The error if decisions near their threshold may fall either way.

    Each number has to be what PyTorch gives where the gate is on, or where it is off; all but a
    few what it gives where the gate falls as it does there.
    """
    gates = (0.0, torch.inf, -torch.inf)
    decided, on, off = (layers.compute(wanted, known, gate) for gate in gates)
    array = torch.from_numpy(got).reshape(decided.shape)
    other = (array - decided).abs() > exact * decided.abs().max()
    few = max(FEW_DECISIONS * array.numel(), math.prod(node["block"]))
    if int(other.sum()) > few:
        return _error(got, decided)
    return _error(got, torch.where((array - on).abs() < (array - off).abs(), on, off))


class Layers(fx.Interpreter):
    """Computes one node of a graph from the nearest values that are known."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self._gate = 0.0

    @torch.no_grad()
    def compute(
        self, wanted: fx.Node, known: Mapping[fx.Node, Tensor], gate: float = 0.0
    ) -> Tensor:
        """The value of a node; ``gate`` is added to the scores of a pixel gate on the way."""
        self._gate = gate
        needed, left = set[fx.Node](), [wanted]
        while left:
            node = left.pop()
            if node not in needed and node not in known:
                left.extend(node.all_input_nodes)
            needed.add(node)
        self.env = {}
        for node in self.module.graph.nodes:  # type: ignore[union-attr]
            if node in needed and node in known:
                # A copy, in the shape that PyTorch has the value in.
                self.env[node] = known[node].clone().reshape(node.meta["val"].shape)
            elif node in needed:
                self.env[node] = self.run_node(node)
        result: Tensor = self.env[wanted]
        return result

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target is torch.ops.headgate.pixel_gated_conv2d.default:
            x, weight, scale, bias, *rest = args
            args = (x, weight, scale, bias + self._gate, *rest)
        return super().call_function(target, args, kwargs)


def _error(got: np.ndarray, wanted: Tensor) -> float:
    expected = wanted.detach().numpy().astype(np.float64).reshape(-1)
    scale = float(np.abs(expected).max()) or 1.0
    return float(np.abs(got.reshape(-1) - expected).max() / scale)
