"""Which nodes work for gates: their results decide on channels and nothing else."""

from __future__ import annotations

from headgate.compile.front.graph import Graph, Node, Value


def averaged(graph: Graph) -> set[Value]:
    """Images of which a node wants the mean of every channel."""
    return {
        node.inputs[0]
        for node in graph.nodes
        if node.kind == "channel_mean"
        and node.inputs[0].pixels > 1
        and node.inputs[0].shape[0] == 1
    }


def gate_nodes(graph: Graph) -> set[Node]:
    """Nodes whose results only gates read."""
    readers: dict[Value, list[Node]] = {}
    for node in graph.nodes:
        for value in node.inputs:
            readers.setdefault(value, []).append(node)
    outputs, found = set(graph.outputs), set[Node]()
    for node in reversed(graph.nodes):
        known = readers.get(node.output, []) if node.output not in outputs else []
        if known and all(r in found or _decides(node.output, r) for r in known):
            found.add(node)
    return found


def _decides(value: Value, reader: Node) -> bool:
    """Whether ``value`` is the gate of ``reader`` and nothing else to it."""
    inputs = reader.inputs
    return (
        reader.kind == "gated_conv2d"
        and inputs[1] is value
        and value not in (inputs[0], *inputs[2:])
    )
