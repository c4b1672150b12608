"""Computing ``compute`` nodes inside their readers, in one loop and without a tensor between.

That is where a result is read once, by a node that reads each of its numbers at most once.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from headgate.compile.front.graph import Graph, Node, Value, keeps_zero
from headgate.compile.front.operators import scalar
from headgate.compile.front.reading import Element
from headgate.device.tensor_type import FLOAT32

LARGEST = 24
"""Nodes in one: a function stays short enough to be compiled quickly."""


def inline(graph: Graph, *, sums: bool = True) -> None:
    """Moves ``compute`` nodes into those that read them, in place.

    With ``sums``, sums and activations behind one become ``compute`` nodes themselves; every
    ``affine`` node that no convolution took in does.
    """
    uses, producers = graph.uses(), graph.producers()
    for node in graph.nodes:
        behind = any(uses[v] == 1 and _is_loop(producers.get(v)) for v in node.inputs)
        if node.kind == "affine" or (sums and node.kind in _EXPRESSIONS and behind):
            element = _EXPRESSIONS[node.kind](node)
            kept = node.kind == "clamp" and keeps_zero((node["low"], node["high"]))
            node.attributes = {
                "element": element,
                "operator": node.kind,
                "rereads": False,
                "zeros": (0,) if kept else (),
            }
            node.kind = "compute"
    for node in graph.nodes:
        if node.kind == "compute" and not node["rereads"]:
            while (value := _movable(node, uses, producers)) is not None:
                producer = producers.pop(value)
                _merge(node, value, producer)
                producer.kind = "merged"
    graph.nodes = [node for node in graph.nodes if node.kind != "merged"]


def _movable(node: Node, uses: dict[Value, int], producers: dict[Value, Node]) -> Value | None:
    """An operand of ``node`` that can be computed there."""
    for value in node.inputs:
        producer = producers.get(value)
        if producer is None or not _is_loop(producer) or uses[value] != 1:
            continue
        small = _size(producer) + _size(node) <= LARGEST
        if small and (node.attributes.get("reduces") or node.output.size <= value.size):
            return value
    return None


def _is_loop(node: Node | None) -> bool:
    """Whether a node's numbers can be computed where they are read."""
    return node is not None and node.kind == "compute" and not node.attributes.get("reduces")


def bounded(node: Node) -> Element:
    """The sum of a node's operands, or its one operand, within its bounds."""
    low, high = node["clamp"] if node.kind == "add" else (node["low"], node["high"])

    def element(readers: list[Callable[..., Any]], *indices: Any) -> Any:
        value = reduce(operator.add, (reader(*indices) for reader in readers))
        value = value if low is None else scalar.maximum(value, scalar.immediate(low, FLOAT32))
        return value if high is None else scalar.minimum(value, scalar.immediate(high, FLOAT32))

    return element


def _scaled(node: Node) -> Element:
    """A channel's factors are read like any other operand."""
    dtype = node.output.dtype
    for name in ("scale", "shift"):
        data = np.asarray(node[name], dtype)
        node.inputs.append(Value.constant(f"{node.output.name}.{name}", data))

    def element(readers: list[Callable[..., Any]], *indices: Any) -> Any:
        x, scale, shift = readers
        return x(*indices) * scale(indices[1]) + shift(indices[1])

    return element


_EXPRESSIONS: dict[str, Callable[[Node], Element]] = {
    "add": bounded,
    "affine": _scaled,
    "clamp": bounded,
}


def _size(node: Node) -> int:
    return int(node.attributes.get("merged", 1))


def _merge(node: Node, value: Value, producer: Node) -> None:
    at, inner, outer = node.inputs.index(value), producer["element"], node["element"]
    count = len(producer.inputs)

    def element(readers: list[Callable[..., Any]], *indices: Any) -> Any:
        own = readers[at : at + count]
        read = [*readers[:at], lambda *place: inner(own, *place), *readers[at + count :]]
        return outer(read, *indices)

    zeros = [i + count - 1 if i > at else i for i in node["zeros"] if i != at]
    if at in node["zeros"] and value.shape == node.output.shape:
        zeros += [at + i for i in producer["zeros"]]
    node.attributes["zeros"] = tuple(zeros)
    node.inputs[at : at + 1] = producer.inputs
    node.attributes |= {"element": element, "merged": _size(node) + _size(producer)}
