"""A float32 graph becomes one whose tensors are float16; inputs and results stay float32.

What gates decide with is float32, and so is the arithmetic of expressions. Where a tensor of one
type meets a node that takes the other stands a cast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from headgate.compile.front.graph import Graph, Node, Value
from headgate.compile.front.operators import scalar
from headgate.compile.front.quantize.ranges import find_ranges
from headgate.compile.front.reading import Element
from headgate.compile.plan.readers import gate_nodes
from headgate.device.tensor_type import FLOAT16, FLOAT32
from headgate.errors import CompileError

LARGEST = float(np.finfo(np.float16).max)
_HALF = (
    *("conv2d", "gated_conv2d", "pixel_gated_conv2d", "linear", "max_pool2d", "avg_pool2d"),
    *("add", "clamp", "concat"),
)
"""Take float16."""
_EITHER = ("channel_mean", "compute", "reshape")
"""Take what there is."""
_OPTIONAL = ("linear", "channel_mean", "compute")
"""Give either type."""
_BOUNDS = ("clamp", "low", "high")


def halve(graph: Graph) -> Graph:
    """The graph of float16 that computes what ``graph`` does, which is left as it is.

    A value that stands for one of PyTorch's keeps its origin.

    Raises:
        CompileError: a weight is larger than float16 holds.
    """
    return _Converter(graph).run()


def check_range(graph: Graph, samples: list[np.ndarray]) -> None:
    """Refuses a graph of float16 whose tensors do not fit on ``samples`` (N, ...) of each input.

    Raises:
        CompileError: a number of one is larger than float16 holds.
    """
    largest = {value: found.largest for value, found in find_ranges(graph, samples).items()}
    for node in graph.nodes:
        if node.output.dtype == FLOAT16 and largest.get(node.output, 0.0) > LARGEST:
            raise CompileError(
                f"The result of {node.name!r} reaches {largest[node.output]:.3g} on a test vector, "
                f"but float16 ends at {LARGEST:g}; compile with float32."
            )


def float_layers(graph: Graph) -> list[Node]:
    """The nodes of a graph of float16 that compute on float32 tensors, gates apart."""
    gates = gate_nodes(graph)
    return [
        node
        for node in graph.nodes
        if node not in gates
        and FLOAT32 in {value.dtype for value in node.inputs if value.data is None}
        and FLOAT16 not in {value.dtype for value in (*node.inputs, node.output)}
    ]


def cast(value: Value, name: str, dtype: str) -> Node:
    """The node that makes a tensor of another type of ``value``."""

    def element(readers: list[Callable[..., Any]], *indices: Any) -> Any:
        return scalar.cast(readers[0](*indices), dtype)

    attributes = {"element": element, "operator": "cast", "zeros": (0,)}
    output = Value(name, replace(value.type, dtype=dtype))
    return Node("compute", [value], output, "", attributes)


class _Converter:
    def __init__(self, graph: Graph) -> None:
        self._graph, self._gates = graph, gate_nodes(graph)
        self._wanted: dict[Value, list[str | None]] = {value: [FLOAT32] for value in graph.outputs}
        for node in graph.nodes:
            for place, value in enumerate(node.inputs):
                self._wanted.setdefault(value, []).append(self._takes(node, place))
        self._made: dict[Value, Value] = {}
        """What stands for a value of ``graph``."""
        self._cast: dict[Value, Value] = {}
        """The same in the other type, where a reader has asked for it."""
        self._nodes: list[Node] = []

    def run(self) -> Graph:
        inputs = [Value(value.name, value.type) for value in self._graph.inputs]
        self._made.update(zip(self._graph.inputs, inputs, strict=True))
        for node in self._graph.nodes:
            self._add(node)
        outputs = [self._as(value, FLOAT32) for value in self._graph.outputs]
        known = self._graph.origins
        origins = {self._made[v]: node for v, node in known.items() if v in self._made}
        leaving = zip(outputs, self._graph.outputs, strict=True)
        origins |= {output: known[value] for output, value in leaving if value in known}
        return Graph(inputs, self._nodes, outputs, self._graph.module, origins)

    def _takes(self, node: Node, place: int) -> str | None:
        """The type that ``node`` wants an input in, None: either."""
        if node.kind in _EITHER:
            return None
        decides = node in self._gates or (node.kind == "gated_conv2d" and place == 1)
        return FLOAT16 if node.kind in _HALF and not decides else FLOAT32

    def _gives(self, node: Node, inputs: list[Value]) -> str:
        """The type of the result of ``node``."""
        if node.kind == "reshape":
            return inputs[0].dtype
        if node.output.dtype != FLOAT32:
            return node.output.dtype
        single = node in self._gates or node.attributes.get("reduces")
        if node.kind in _OPTIONAL:
            single = single or set(self._wanted.get(node.output, ())) == {FLOAT32}
        return FLOAT16 if node.kind in (*_HALF, *_OPTIONAL) and not single else FLOAT32

    def _add(self, node: Node) -> None:
        inputs = [self._as(v, self._takes(node, place)) for place, v in enumerate(node.inputs)]
        dtype = self._gives(node, inputs)
        output = Value(node.output.name, replace(node.output.type, dtype=dtype))
        attributes = dict(node.attributes)
        if node.kind == "compute":
            attributes["element"] = _of_half(node["element"], [v.dtype for v in inputs], dtype)
        elif dtype == FLOAT16:
            _check_weights(node)
            attributes |= {key: _held(attributes[key]) for key in _BOUNDS if key in attributes}
        self._nodes.append(Node(node.kind, inputs, output, node.path, attributes))
        self._made[node.output] = output

    def _as(self, value: Value, dtype: str | None) -> Value:
        """What stands for ``value``, as numbers of ``dtype``."""
        made = value if value.data is not None else self._made[value]
        if dtype in (None, made.dtype) or made.dtype not in (FLOAT16, FLOAT32):
            return made
        if made not in self._cast and made.data is not None:
            self._cast[made] = Value.constant(made.name, made.data.astype(dtype))
        elif made not in self._cast:
            assert dtype is not None
            node = cast(made, f"{made.name}.{dtype}", dtype)
            self._nodes.append(node)
            self._cast[made] = node.output
        return self._cast[made]


def _of_half(element: Element, dtypes: list[str], result: str) -> Element:
    """``element``, which computes with float32, of tensors of these types."""

    def read(reader: Callable[..., Any], dtype: str) -> Callable[..., Any]:
        if dtype != FLOAT16:
            return reader
        return lambda *indices: scalar.cast(reader(*indices), FLOAT32)

    def own(readers: list[Callable[..., Any]], *indices: Any) -> Any:
        wide = [read(reader, dtype) for reader, dtype in zip(readers, dtypes, strict=True)]
        value = element(wide, *indices)
        return scalar.cast(value, FLOAT16) if result == FLOAT16 else value

    return own


def _check_weights(node: Node) -> None:
    weight = node.attributes.get("weight")
    if weight is not None and not np.abs(weight).max(initial=0.0) <= LARGEST:
        raise CompileError(
            f"A weight of {node.name!r} is larger than {LARGEST:g}, which is all that float16 "
            "holds; compile with float32."
        )


def _held(bounds: Any) -> Any:
    """Bounds of an activation, without those that float16 never reaches."""
    if isinstance(bounds, tuple):
        return tuple(_held(bound) for bound in bounds)
    return None if bounds is None or abs(bounds) > LARGEST else bounds
