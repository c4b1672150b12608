"""Folding and fusing: batch norm into weights, activations and residual sums into epilogues."""

from __future__ import annotations

import numpy as np

from headgate.compile.front.graph import Graph, Node, Value, keeps_zero
from headgate.compile.front.inline import inline

_CONVOLUTIONS = ("conv2d", "gated_conv2d", "pixel_gated_conv2d")
_CLAMPED = (*_CONVOLUTIONS, "linear", "max_pool2d", "avg_pool2d", "add")


def fuse(graph: Graph) -> None:
    """Rewrites ``graph`` in place; afterwards there is no ``affine`` node.

    A fused convolution has ``clamp`` (low, high) and, when it adds a residual, that tensor as its
    last input and ``residual`` set. One whose channels are placed among others has those,
    ``placed``, and what the others hold, ``constant``.
    """
    _fold_affine(graph)
    _fold_place(graph)
    _fold_absolute(graph)
    for node in graph.nodes:
        node.attributes.setdefault("clamp", (None, None))
        if node.kind in _CONVOLUTIONS:
            node.attributes.setdefault("residual", False)
    _fuse_residual(graph)
    _fuse_clamp(graph)
    inline(graph)


class _Rewriting:
    """A graph while nodes of it disappear into others: who makes and who reads each value."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._nodes: list[Node | None] = list(graph.nodes)
        self.place = {node: place for place, node in enumerate(graph.nodes)}
        self.uses = graph.uses()
        self.producers = graph.producers()

    def sole_producer(self, value: Value) -> Node | None:
        """The node that made ``value``, if ``value`` is read once."""
        return self.producers.get(value) if self.uses[value] == 1 else None

    def absorb(self, producer: Node, node: Node) -> None:
        """``node`` disappears into ``producer``, which takes its place and its result."""
        del self.producers[producer.output]
        self._nodes[self.place[producer]] = None
        self.place[producer] = self.place.pop(node)
        self._nodes[self.place[producer]] = producer
        producer.output = node.output
        self.producers[node.output] = producer

    def done(self) -> None:
        self._graph.nodes = [node for node in self._nodes if node is not None]


def _fold_affine(graph: Graph) -> None:
    rewriting = _Rewriting(graph)
    for node in list(graph.nodes):
        producer = rewriting.sole_producer(node.inputs[0]) if node.inputs else None
        if node.kind != "affine" or producer is None:
            continue
        scale, shift = node["scale"], node["shift"]
        if producer.kind in ("conv2d", "linear"):
            rows = scale.reshape(-1, *([1] * (producer["weight"].ndim - 1)))
            producer.attributes["weight"] = producer["weight"] * rows
            producer.attributes["bias"] = producer["bias"] * scale + shift
        elif producer.kind == "affine":
            producer.attributes["scale"] = producer["scale"] * scale
            producer.attributes["shift"] = producer["shift"] * scale + shift
        else:
            continue
        rewriting.absorb(producer, node)
    rewriting.done()


def _fold_place(graph: Graph) -> None:
    """Convolutions write their channels in place; other producers get a scattering 1x1 one."""
    rewriting = _Rewriting(graph)
    for node in list(graph.nodes):
        if node.kind != "place_channels":
            continue
        producer = rewriting.sole_producer(node.inputs[0])
        channels, constant = node["channels"], node["constant"]
        if (
            producer is not None
            and producer.kind == "conv2d"
            and producer["groups"] == 1
            and "placed" not in producer.attributes
        ):
            producer.attributes |= {"placed": channels, "constant": constant}
            rewriting.absorb(producer, node)
            continue
        weight = np.zeros((constant.size, len(channels), 1, 1), np.float32)
        weight[channels, range(len(channels))] = 1
        bias = constant.copy()
        bias[list(channels)] = 0
        node.kind = "conv2d"
        node.attributes = {
            "weight": weight,
            "bias": bias,
            "stride": (1, 1),
            "padding": (0, 0, 0, 0),
            "dilation": (1, 1),
            "groups": 1,
        }
    rewriting.done()


def _fold_absolute(graph: Graph) -> None:
    """The mean of absolute values is one node."""
    producers = graph.producers()
    for node in graph.nodes:
        producer = producers.get(node.inputs[0]) if node.inputs else None
        absolute = producer is not None and producer.attributes.get("operator") == "abs"
        if node.kind == "channel_mean" and producer is not None and absolute:
            node.inputs = producer.inputs
            node.attributes["absolute"] = True
    graph.remove_unused()


def _fuse_residual(graph: Graph) -> None:
    rewriting = _Rewriting(graph)

    def last_gated_first(pair: list[Value]) -> tuple[bool, int]:
        # A gated sum adds its active channels in place and leaves the others alone.
        producer = rewriting.producers.get(pair[0])
        if producer is None:
            return False, -1
        return producer.kind == "gated_conv2d", rewriting.place[producer]

    for node in list(graph.nodes):
        if node.kind != "add":
            continue
        for value, other in sorted(
            (node.inputs, node.inputs[::-1]), key=last_gated_first, reverse=True
        ):
            producer = rewriting.sole_producer(value)
            if (
                producer is not None
                and producer.kind in _CONVOLUTIONS
                and not producer["residual"]
                and producer["clamp"] == (None, None)
                and other is not value
                and not _gated_depthwise(producer)
            ):
                producer.inputs.append(other)
                producer.attributes["residual"] = True
                producer.attributes["clamp"] = node["clamp"]
                rewriting.absorb(producer, node)
                break
    rewriting.done()


def _gated_depthwise(node: Node) -> bool:
    # Its kernel visits active channels only and would leave the others without the residual.
    return node.kind == "gated_conv2d" and node["weight"].shape[1] == 1 and node["groups"] > 1


def _fuse_clamp(graph: Graph) -> None:
    rewriting = _Rewriting(graph)
    for node in list(graph.nodes):
        if node.kind != "clamp":
            continue
        producer = rewriting.sole_producer(node.inputs[0])
        if (
            producer is not None
            and producer.kind in _CLAMPED
            and producer["clamp"] == (None, None)
            and (keeps_zero((node["low"], node["high"])) or producer.kind in ("conv2d", "linear"))
        ):
            producer.attributes["clamp"] = (node["low"], node["high"])
            rewriting.absorb(producer, node)
    rewriting.done()
