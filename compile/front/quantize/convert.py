"""A float32 graph becomes one of codes, node by node; what has no int8 kernel stays float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from headgate.compile.front.graph import Graph, Node, Value
from headgate.compile.front.quantize.curves import Curve, find_curves
from headgate.compile.front.quantize.exact import exact, is_exact
from headgate.device.tensor_type import FLOAT32, INT8, UINT8, TensorType
from headgate.train.quantization.codes import LEVELS, Codes, quantized_rows
from headgate.train.quantization.ranges import Range

_ALWAYS = ("conv2d", "gated_conv2d", "pixel_gated_conv2d", "linear")
"""Have codes for inputs whatever made those."""
_AMONG_CODES = ("max_pool2d", "avg_pool2d", "channel_mean", "add", "clamp", "concat", "reshape")
"""Have codes for inputs where all of those are codes already."""
_MOST_SCORE, _MOST_SCORES = 1 << 23, 1 << 30
"""The largest magnitude of a pixel gate's score, and of a block's."""
_SAME_SCALE = ("max_pool2d", "concat", "reshape")
_KEEPS_SIGN = ("max_pool2d", "avg_pool2d", "channel_mean", "concat", "reshape", "add")


def quantize(graph: Graph, ranges: Mapping[Value, Range]) -> Graph:
    """The graph of codes that computes what ``graph`` does, which is left as it is.

    A value that stands for one of PyTorch's keeps its origin. Nodes of ``graph`` that stay
    float32 have a ``dequantize`` before and a ``quantize`` behind them where they meet codes.
    """
    return _Converter(graph, ranges).run()


class _Converter:
    def __init__(self, graph: Graph, ranges: Mapping[Value, Range]) -> None:
        self._graph, self._ranges = graph, ranges
        self._curves = find_curves(graph)
        self._coded = _coded_nodes(graph, ranges, self._curves)
        self._readers: dict[Value, list[Node]] = {}
        for node in graph.nodes:
            for value in node.inputs:
                self._readers.setdefault(value, []).append(node)
        self._codes = self._choose_codes()
        self._new: dict[Value, Value] = {}
        """The value that stands for one of ``graph``, in the form in which it is made."""
        self._other: dict[Value, Value] = {}
        """The same in the other form, codes or numbers, where a reader has asked for it."""
        self._nodes: list[Node] = []

    def run(self) -> Graph:
        inputs = [Value(value.name, value.type) for value in self._graph.inputs]
        self._new.update(zip(self._graph.inputs, inputs, strict=True))
        for node in self._graph.nodes:
            handler: Handler = _float
            if node in self._coded:
                handler = _table if node.output in self._curves else _HANDLERS[node.kind]
            output, made = handler(self, node)
            self._new[node.output] = output
            self._nodes.append(made)
        outputs = [self.numbers(value) for value in self._graph.outputs]
        origins = {
            self._new[value]: node
            for value, node in self._graph.origins.items()
            if value in self._new
        }
        graph = Graph(inputs, self._nodes, outputs, self._graph.module, origins)
        graph.remove_unused()  # the nodes of a chain that has become one table
        return graph

    # What handlers ask

    def scale(self, value: Value) -> float:
        return self._codes[value].scale

    def codes(self, value: Value) -> Value:
        """``value`` as codes."""
        own = self._codes[value]
        if value.data is not None:
            data = value.data
            return self._once(value, lambda: Value(value.name, own.type(value.shape), own.of(data)))
        made = self._new[value]
        if made.dtype != FLOAT32:
            return made
        return self._once(value, lambda: self._convert(value, "quantize", 1 / own.scale, own))

    def numbers(self, value: Value) -> Value:
        """``value`` as it is in the float32 graph."""
        if value.data is not None:
            return value
        made = self._new[value]
        if made.type.quantization is None:
            return made
        scale = self._codes[value].scale
        return self._once(value, lambda: self._convert(value, "dequantize", scale, None))

    def coded_output(self, node: Node) -> Value:
        """The result of ``node`` as codes."""
        return Value(node.output.name, self._codes[node.output].type(node.output.shape))

    def bounds(self, node: Node) -> tuple[float, float]:
        """The codes within the activation of ``node``."""
        clamp = node.attributes.get("clamp", (None, None))
        return self._codes[node.output].bounds(clamp)

    def table(self, node: Node) -> tuple[Value, np.ndarray]:
        """What the result of ``node`` is a function of, and its codes by those of that."""
        curve, dtype = self._curves[node.output], self._codes[self._curves[node.output].root].dtype
        codes = np.arange(256, dtype=np.uint8).view(dtype)
        numbers = curve.of(codes * self.scale(curve.root))
        known = np.nan_to_num(numbers, posinf=np.inf, neginf=-np.inf)
        return curve.root, self._codes[node.output].of(known)

    def wants_numbers(self, node: Node) -> bool:
        """Whether all that read the result of ``node`` take numbers."""
        value = node.output
        return all(
            reader not in self._coded or (reader.kind == "gated_conv2d" and _is_gate(value, reader))
            for reader in self._readers.get(value, ())
        )

    # How

    def _once(self, value: Value, make: Callable[[], Value]) -> Value:
        if value not in self._other:
            self._other[value] = make()
        return self._other[value]

    def _convert(self, value: Value, kind: str, factor: float, codes: Codes | None) -> Value:
        kept = codes.type(value.shape) if codes else TensorType(value.shape)
        output = Value(f"{value.name}.{kind}", kept)
        attributes: dict[str, Any] = {"factor": np.float32(factor)}
        if codes is not None:
            attributes["clamp"] = codes.bounds((None, None))
        self._nodes.append(Node(kind, [self._new[value]], output, "", attributes))
        return output

    def _choose_codes(self) -> dict[Value, Codes]:
        """For every value that is written as codes somewhere, in groups that share a scale."""
        groups = _Groups()
        positive: dict[Value, bool] = {}
        for node in self._graph.nodes:
            positive[node.output] = _never_negative(node, positive, self._curves)
            if node in self._coded and node.kind in _SAME_SCALE:
                for value in node.inputs:
                    groups.join(value, node.output)
        members: dict[Value, list[Value]] = {}
        for node in self._graph.nodes:
            for value in (*node.inputs, node.output):
                if value in self._ranges or value.data is not None:
                    members.setdefault(groups.find(value), []).append(value)
        found: dict[Value, Codes] = {}
        for values in members.values():
            known = [self._range(value) for value in dict.fromkeys(values)]
            joined = known[0]
            for other in known[1:]:
                joined = joined.join(other)
            dtype = UINT8 if all(self._is_positive(v, positive) for v in values) else INT8
            limit = joined.clipped(LEVELS[dtype])
            codes = Codes(dtype, limit / LEVELS[dtype] if limit > 0 else 1.0)
            found.update(dict.fromkeys(values, codes))
        return found

    def _range(self, value: Value) -> Range:
        if value in self._ranges:
            return self._ranges[value]
        data = value.data if value.data is not None and value.size else np.zeros(1)
        return Range(float(data.min()), float(data.max()))

    @staticmethod
    def _is_positive(value: Value, positive: Mapping[Value, bool]) -> bool:
        if value.data is not None:
            return bool((value.data >= 0).all())
        return positive.get(value, False)


class _Groups:
    """Sets of values that share a scale."""

    def __init__(self) -> None:
        self._parent: dict[Value, Value] = {}

    def find(self, value: Value) -> Value:
        while value in self._parent:
            value = self._parent[value]
        return value

    def join(self, a: Value, b: Value) -> None:
        first, second = self.find(a), self.find(b)
        if first is not second:
            self._parent[first] = second


def _coded_nodes(
    graph: Graph, ranges: Mapping[Value, Range], curves: Mapping[Value, Curve]
) -> set[Node]:
    """Nodes that compute with codes."""
    found: set[Node] = set()
    coded: set[Value] = {value for value in graph.inputs if value in ranges}
    for node in graph.nodes:
        operands = _operands(node)
        known = all(v in ranges or _is_constant(v) for v in (*operands, node.output))
        among = node.kind in _AMONG_CODES and all(
            value in coded or (_is_constant(value) and node.kind == "add") for value in operands
        )
        curve = curves.get(node.output)
        table = node.output in ranges and curve is not None and curve.root in coded
        if (known and (node.kind in _ALWAYS or among)) or table:
            found.add(node)
            coded.add(node.output)
    # What nobody reads as codes stays as exact as it is: a gate's weights, a prediction.
    read = {value for node in found for value in ([] if node.output in curves else _operands(node))}
    return {node for node in found if node.output not in curves or node.output in read}


def _is_constant(value: Value) -> bool:
    return value.data is not None and value.dtype == FLOAT32


def _operands(node: Node) -> list[Value]:
    """The inputs that are no gate."""
    return [v for i, v in enumerate(node.inputs) if not (node.kind == "gated_conv2d" and i == 1)]


def _is_gate(value: Value, reader: Node) -> bool:
    return reader.inputs[1] is value and value not in _operands(reader)


def _never_negative(
    node: Node, positive: Mapping[Value, bool], curves: Mapping[Value, Curve]
) -> bool:
    """Whether the result of ``node`` cannot be below zero, whatever the image."""
    if node.output in curves:
        curve = curves[node.output]
        return curve.keeps_sign(positive.get(curve.root, False))
    low = node["low"] if node.kind == "clamp" else node.attributes.get("clamp", (None,))[0]
    if low is not None and low >= 0:
        return True
    if node.kind == "channel_mean" and node["absolute"]:
        return True
    return node.kind in _KEEPS_SIGN and all(positive.get(value, False) for value in node.inputs)


Handler = Callable[[_Converter, Node], tuple[Value, Node]]


def _float(own: _Converter, node: Node) -> tuple[Value, Node]:
    inputs = [own.numbers(value) for value in node.inputs]
    output, attributes = Value(node.output.name, node.output.type), dict(node.attributes)
    if node.kind == "compute":
        formula = node["element"]
        attributes["element"] = exact(formula)
        if is_exact(node):
            attributes["formula"] = formula
    return output, Node(node.kind, inputs, output, node.path, attributes)


def _convolution(own: _Converter, node: Node) -> tuple[Value, Node]:
    x, output = node.inputs[0], own.coded_output(node)
    step = own.scale(node.output)
    rows = quantized_rows(node["weight"], node["bias"], own.scale(x))
    attributes = {
        **node.attributes,
        "weight": rows.weight,
        "bias": rows.bias,
        "factor": (rows.steps / step).astype(np.float32),
        "clamp": own.bounds(node),
    }
    inputs = [own.codes(x)]
    if node.kind == "gated_conv2d":
        inputs.append(own.numbers(node.inputs[1]))
        attributes["shift"] = (node["shift"] / step).astype(np.float32)
    if "placed" in attributes:
        attributes["constant"] = (node["constant"] / step).astype(np.float32)
    if node["residual"]:
        inputs.append(own.codes(node.inputs[-1]))
        attributes["residual_factor"] = np.float32(own.scale(node.inputs[-1]) / step)
    return output, Node(node.kind, inputs, output, node.path, attributes)


def _pixel_gated(own: _Converter, node: Node) -> tuple[Value, Node]:
    x, output = node.inputs[0], own.coded_output(node)
    step, outputs = own.scale(node.output), len(node["weight"])
    rows = quantized_rows(node["weight"], np.zeros(outputs), own.scale(x))
    # Scores are whole numbers of so many levels that a block of them still fits 32 bits.
    most = np.abs(rows.weight.reshape(outputs, -1).astype(np.float64)).sum(axis=1) * 255
    most = np.abs(node["gate_scale"]) * rows.steps * most + np.abs(node["gate_bias"])
    levels = min(_MOST_SCORE, _MOST_SCORES // int(np.prod(node["block"])))
    least = float(most.max()) / levels or 1.0
    kept = ("stride", "padding", "dilation", "groups", "partitions", "grouped", "shuffle")
    attributes = {
        **{name: node[name] for name in (*kept, "block", "residual")},
        "weight": rows.weight,
        "bias": rows.bias,
        "clamp": own.bounds(node),
    }
    for scale, bias, name, unit in (
        ("full_scale", "full_bias", "", step),
        ("base_scale", "base_bias", "base_", step),
        ("gate_scale", "gate_bias", "score_", least),
    ):
        attributes[f"{name}factor"] = (node[scale] * rows.steps / unit).astype(np.float32)
        attributes[f"{name}shift"] = (node[bias] / unit).astype(np.float32)
    inputs = [own.codes(x)]
    if node["residual"]:
        inputs.append(own.codes(node.inputs[-1]))
        attributes["residual_factor"] = np.float32(own.scale(node.inputs[-1]) / step)
    return output, Node(node.kind, inputs, output, node.path, attributes)


def _linear(own: _Converter, node: Node) -> tuple[Value, Node]:
    rows = quantized_rows(node["weight"], node["bias"], own.scale(node.inputs[0]))
    attributes = {**node.attributes, "weight": rows.weight, "bias": rows.bias}
    if own.wants_numbers(node):
        output = Value(node.output.name, node.output.type)
        steps = rows.steps
    else:
        output = own.coded_output(node)
        steps = rows.steps / own.scale(node.output)
        attributes["clamp"] = own.bounds(node)
    attributes["factor"] = steps.astype(np.float32)
    inputs = [own.codes(node.inputs[0])]
    return output, Node(node.kind, inputs, output, node.path, attributes)


def _rescaled(divisor: Callable[[Node], int]) -> Handler:
    """A mean: the sum of codes, times one factor."""

    def handler(own: _Converter, node: Node) -> tuple[Value, Node]:
        output = own.coded_output(node)
        factor = own.scale(node.inputs[0]) / (divisor(node) * own.scale(node.output))
        attributes = {
            **node.attributes,
            "factor": np.float32(factor),
            "clamp": own.bounds(node),
        }
        inputs = [own.codes(node.inputs[0])]
        return output, Node(node.kind, inputs, output, node.path, attributes)

    return handler


def _sum(own: _Converter, node: Node) -> tuple[Value, Node]:
    output = own.coded_output(node)
    step = own.scale(node.output)
    factors = np.array([own.scale(value) / step for value in node.inputs], np.float32)
    bounds = own.bounds(node)
    if node.kind == "clamp":
        low, high = own._codes[node.output].bounds((node["low"], node["high"]))
        attributes = {**node.attributes, "low": low, "high": high, "factors": factors}
    else:
        attributes = {**node.attributes, "clamp": bounds, "factors": factors}
    inputs = [own.codes(value) for value in node.inputs]
    return output, Node(node.kind, inputs, output, node.path, attributes)


def _table(own: _Converter, node: Node) -> tuple[Value, Node]:
    root, table = own.table(node)
    output = own.coded_output(node)
    return output, Node("table", [own.codes(root)], output, node.path, {"table": table})


def _moved(own: _Converter, node: Node) -> tuple[Value, Node]:
    """What only chooses among codes, or puts them elsewhere."""
    output = own.coded_output(node)
    attributes = dict(node.attributes)
    if "clamp" in attributes:
        attributes["clamp"] = own.bounds(node)
    inputs = [own.codes(value) for value in node.inputs]
    return output, Node(node.kind, inputs, output, node.path, attributes)


_HANDLERS: dict[str, Handler] = {
    "conv2d": _convolution,
    "gated_conv2d": _convolution,
    "pixel_gated_conv2d": _pixel_gated,
    "linear": _linear,
    "channel_mean": _rescaled(lambda node: node.inputs[0].pixels),
    "avg_pool2d": _rescaled(lambda node: int(np.prod(node["kernel"]))),
    "add": _sum,
    "clamp": _sum,
    "max_pool2d": _moved,
    "concat": _moved,
    "reshape": _moved,
}
