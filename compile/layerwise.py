"""Every layer held against PyTorch by itself, to find the one that computes something else.

The network is built a second time such that the result of every layer leaves it. Each is compared
with what PyTorch makes of *the inputs that this layer had*, so one wrong layer, or a decision that
fell otherwise by rounding, does not count against those behind it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from headgate.compile.build import Built, build
from headgate.compile.graph import Graph, Node
from headgate.compile.network import TRACE, Signature
from headgate.compile.targets import Target

EXACT = 1e-5
"""A layer that is right is nearer to PyTorch than this; what is left is the order of sums."""
FEW_DECISIONS = 0.01
"""Share of a pixel gate's numbers that may be decided otherwise because of rounding."""


@dataclass(frozen=True)
class Difference:
    """How far one layer is from PyTorch: the largest error as a share of its result's scale."""

    path: str
    operator: str
    error: float


class Trace:
    """A second program of a fused graph, from which every layer's result comes back.

    Attributes:
        values: what comes back, in order of execution; the network's own results are the last.
    """

    def __init__(self, graph: Graph, target: Target, name: str, inputs: tuple[str, ...]) -> None:
        self._graph = graph
        kept = [node.output for node in graph.nodes if node.output.dtype == "float32"]
        self.values = [*kept, *graph.outputs]
        traced = Graph(graph.inputs, graph.nodes, self.values)
        self.built: Built = build(traced, target, name, Signature(inputs, None), shared=False)

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """The one output of the program, by name."""
        return {TRACE: (1, sum(value.size for value in self.values))}

    def split(self, trace: np.ndarray) -> list[np.ndarray]:
        """The arrays of :attr:`values` in what one run brought back."""
        ends = np.cumsum([value.size for value in self.values])
        parts = np.split(trace.reshape(-1), ends[:-1])
        return [part.reshape(v.shape) for part, v in zip(parts, self.values, strict=True)]

    def results(self, trace: np.ndarray) -> list[np.ndarray]:
        """The network's own results, each (1, ...)."""
        return self.split(trace)[len(self.values) - len(self._graph.outputs) :]

    def differences(
        self, module: fx.GraphModule, inputs: list[np.ndarray], trace: np.ndarray
    ) -> list[Difference]:
        """Each layer's difference from PyTorch, in order of execution.

        Args:
            module: what the graph was read from; its nodes have the names of the graph's values.
            inputs: one sample (1, ...) of each input.
            trace: what the program made of them.
        """
        got = dict(zip(self.values, self.split(trace), strict=True))
        known = {
            value.name: torch.from_numpy(array.copy())
            for value, array in (*zip(self._graph.inputs, inputs, strict=True), *got.items())
        }
        layers = _Layers(module)
        found = []
        for node in self._graph.nodes:
            value = node.output
            if value in got and value.name in layers.nodes:
                others = {name: tensor for name, tensor in known.items() if name != value.name}
                error = _error(got[value], layers.compute(value.name, others))
                if node.kind == "pixel_gated_conv2d" and error > EXACT:
                    error = _pixel_gated_error(node, got[value], layers, others)
                found.append(Difference(node.path, _operator(node), error))
        return found


def _pixel_gated_error(
    node: Node, got: np.ndarray, layers: _Layers, known: Mapping[str, Tensor]
) -> float:
    """The error if decisions near their threshold may fall either way.

    Each number has to be what PyTorch gives where the gate is on, or where it is off; all but a
    few what it gives where the gate falls as it does there.
    """
    name = node.output.name
    decided, on, off = (layers.compute(name, known, gate) for gate in (0.0, torch.inf, -torch.inf))
    array = torch.from_numpy(got).reshape(decided.shape)
    other = (array - decided).abs() > EXACT * decided.abs().max()
    few = max(FEW_DECISIONS * array.numel(), math.prod(node["block"]))
    if int(other.sum()) > few:
        return _error(got, decided)
    return _error(got, torch.where((array - on).abs() < (array - off).abs(), on, off))


class _Layers(fx.Interpreter):
    """Computes one node of a graph from the nearest values that are known."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self._gate = 0.0
        self.nodes = {node.name: node for node in module.graph.nodes}

    @torch.no_grad()
    def compute(self, name: str, known: Mapping[str, Tensor], gate: float = 0.0) -> Tensor:
        """The value of a node; ``gate`` is added to the scores of a pixel gate on the way."""
        self._gate = gate
        wanted = self.nodes[name]
        needed: set[fx.Node] = set()
        left = [wanted]
        while left:
            node = left.pop()
            if node in needed:
                continue
            needed.add(node)
            if node.name not in known:
                left.extend(node.all_input_nodes)
        self.env = {}
        for node in self.module.graph.nodes:  # type: ignore[union-attr]
            if node in needed and node.name in known:
                self.env[node] = _shaped(node, known[node.name])
            elif node in needed:
                self.env[node] = self.run_node(node)
        result: Tensor = self.env[wanted]
        return result

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target is torch.ops.headgate.pixel_gated_conv2d.default:
            x, weight, scale, bias, *rest = args
            args = (x, weight, scale, bias + self._gate, *rest)
        return super().call_function(target, args, kwargs)


def _shaped(node: fx.Node, tensor: Tensor) -> Tensor:
    """A copy in the shape that PyTorch has the value in."""
    return tensor.clone().reshape(node.meta["val"].shape)


def _error(got: np.ndarray, wanted: Tensor) -> float:
    expected = wanted.detach().numpy().astype(np.float64).reshape(-1)
    scale = float(np.abs(expected).max()) or 1.0
    return float(np.abs(got.reshape(-1) - expected).max() / scale)


def _operator(node: Node) -> str:
    return str(node.attributes.get("operator") or node.kind)
