"""Folding and fusing: batch norm into weights, activations and residual sums into epilogues."""

from __future__ import annotations

import numpy as np

from headgate.compile.graph import Graph, Node, Value
from headgate.compile.inline import inline

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


def _absorb(graph: Graph, producer: Node, node: Node) -> None:
    """``node`` disappears into ``producer``, which takes its place and its result."""
    producer.output = node.output
    graph.nodes.remove(producer)
    graph.nodes[graph.nodes.index(node)] = producer


def _fold_affine(graph: Graph) -> None:
    for node in list(graph.nodes):
        producer = graph.producers().get(node.inputs[0]) if node.inputs else None
        if node.kind != "affine" or producer is None or graph.uses()[node.inputs[0]] != 1:
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
        _absorb(graph, producer, node)


def _fold_place(graph: Graph) -> None:
    """A convolution writes its channels where they belong; anything else gets a 1x1 that does."""
    for node in list(graph.nodes):
        if node.kind != "place_channels":
            continue
        producer = graph.producers().get(node.inputs[0])
        channels, constant = node["channels"], node["constant"]
        if (
            producer is not None
            and producer.kind == "conv2d"
            and producer["groups"] == 1
            and graph.uses()[node.inputs[0]] == 1
            and "placed" not in producer.attributes
        ):
            producer.attributes |= {"placed": channels, "constant": constant}
            _absorb(graph, producer, node)
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


def _fold_absolute(graph: Graph) -> None:
    """The mean of absolute values is one node."""
    for node in list(graph.nodes):
        producer = graph.producers().get(node.inputs[0]) if node.inputs else None
        absolute = producer is not None and producer.attributes.get("operator") == "abs"
        if node.kind == "channel_mean" and producer is not None and absolute:
            node.inputs = producer.inputs
            node.attributes["absolute"] = True
    graph.remove_unused()


def _fuse_residual(graph: Graph) -> None:
    for node in list(graph.nodes):
        if node.kind != "add":
            continue
        uses, producers = graph.uses(), graph.producers()
        order = {n.output: (n.kind == "gated_conv2d", i) for i, n in enumerate(graph.nodes)}

        def last_gated_first(pair: list[Value], order: dict = order) -> tuple[bool, int]:
            # A gated sum adds its active channels in place and leaves the others alone.
            return order.get(pair[0], (False, -1))

        for value, other in sorted(
            (node.inputs, node.inputs[::-1]), key=last_gated_first, reverse=True
        ):
            producer = producers.get(value)
            if (
                producer is not None
                and producer.kind in _CONVOLUTIONS
                and uses[value] == 1
                and not producer["residual"]
                and producer["clamp"] == (None, None)
                and other is not value
                and not _gated_depthwise(producer)
            ):
                producer.inputs.append(other)
                producer.attributes["residual"] = True
                producer.attributes["clamp"] = node["clamp"]
                _absorb(graph, producer, node)
                break


def _gated_depthwise(node: Node) -> bool:
    # Its kernel visits active channels only and would leave the others without the residual.
    return node.kind == "gated_conv2d" and node["weight"].shape[1] == 1 and node["groups"] > 1


def keeps_zero(clamp: tuple[float | None, float | None]) -> bool:
    """Whether an activation leaves zero alone, as skipped channels need."""
    low, high = clamp
    return (low is None or low <= 0) and (high is None or high >= 0)


def _fuse_clamp(graph: Graph) -> None:
    for node in list(graph.nodes):
        if node.kind != "clamp":
            continue
        producer = graph.producers().get(node.inputs[0])
        if (
            producer is not None
            and producer.kind in _CLAMPED
            and producer["clamp"] == (None, None)
            and graph.uses()[node.inputs[0]] == 1
            and (keeps_zero((node["low"], node["high"])) or producer.kind in ("conv2d", "linear"))
        ):
            producer.attributes["clamp"] = (node["low"], node["high"])
            _absorb(graph, producer, node)
