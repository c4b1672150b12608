"""Folding and fusing: batch norm into weights, activations and residual sums into epilogues."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import tirx

from headgate.compile.front.graph import Graph, Node, Value, keeps_zero
from headgate.compile.front.inline import inline
from headgate.compile.front.operators.scalar import Expr
from headgate.device.tensor_type import TensorType

_CONVOLUTIONS = ("conv2d", "gated_conv2d", "pixel_gated_conv2d")
_LARGE_PATCH = 64
"""Pixels."""
_CLAMPED = (*_CONVOLUTIONS, "linear", "max_pool2d", "avg_pool2d", "add")


def fuse(graph: Graph, *, coded: bool = False) -> None:
    """Rewrites ``graph`` in place; afterwards there is no ``affine`` node.

    A fused convolution has ``clamp`` (low, high) and, when it adds a residual, that tensor as its
    last input and ``residual`` set. One whose channels are placed among others has those,
    ``placed``, and what the others hold, ``constant``. ``coded``: it is to become a graph of codes,
    for which sums and activations have kernels whatever lies in front of them.
    """
    _gather_patches(graph)
    fold(graph, "affine", scaled)
    fold(graph, "place_channels", _placed)
    scatter_placed(graph)
    _fold_absolute(graph)
    for node in graph.nodes:
        node.attributes.setdefault("clamp", (None, None))
        if node.kind in _CONVOLUTIONS:
            node.attributes.setdefault("residual", False)
    _fuse_residual(graph)
    fold(graph, "clamp", _clamped)
    inline(graph, sums=not coded)


def fold(graph: Graph, kind: str, takes: Callable[[Node, Node], bool]) -> None:
    """Nodes of ``kind`` disappear into what made their input, where nobody else reads that.

    ``takes(producer, node)`` changes the producer and returns True, or returns False.
    """
    uses, producers = graph.uses(), graph.producers()
    for node in [node for node in graph.nodes if node.kind == kind]:
        (value, *_) = node.inputs
        if uses[value] == 1 and value in producers and takes(producers[value], node):
            _absorb(graph, producers, producers[value], node)


def _absorb(graph: Graph, producers: dict[Value, Node], producer: Node, node: Node) -> None:
    """``node`` disappears into ``producer``, which takes its place and its result."""
    graph.nodes.remove(producer)
    graph.nodes[graph.nodes.index(node)] = producer
    producer.output = node.output
    producers[node.output] = producer


def scaled(producer: Node, node: Node) -> bool:
    """Factors and shifts go into the weights in front of them."""
    scale, shift = node["scale"], node["shift"]
    if producer.kind in ("conv2d", "linear"):
        rows = scale.reshape(-1, *([1] * (producer["weight"].ndim - 1)))
        producer.attributes["weight"] = producer["weight"] * rows
        producer.attributes["bias"] = producer["bias"] * scale + shift
    elif producer.kind == "affine":
        producer.attributes["scale"] = producer["scale"] * scale
        producer.attributes["shift"] = producer["shift"] * scale + shift
    else:
        return False
    return True


def _placed(producer: Node, node: Node) -> bool:
    """Convolutions write their channels in place."""
    if producer.kind != "conv2d" or producer["groups"] != 1 or "placed" in producer.attributes:
        return False
    producer.attributes |= {"placed": node["channels"], "constant": node["constant"]}
    return True


def scatter_placed(graph: Graph) -> None:
    """What no convolution has taken in becomes one, which puts its inputs at ``channels``."""
    for node in graph.nodes:
        if node.kind == "place_channels":
            channels, bias = list(node["channels"]), node["constant"].copy()
            weight = np.zeros((bias.size, len(channels), 1, 1), np.float32)
            weight[channels, range(len(channels))] = 1
            bias[channels] = 0
            node.kind = "conv2d"
            node.attributes = {
                "weight": weight,
                "bias": bias,
                "stride": (1, 1),
                "padding": (0, 0, 0, 0),
                "dilation": (1, 1),
                "groups": 1,
            }


def _gather_patches(graph: Graph) -> None:
    """Convolutions of large patches that do not overlap become those of a single tap.

    Each pixel of a patch becomes a channel. Vectors of pixels that lie so far apart are loaded
    number by number, which takes LLVM minutes to compile and a machine long to do.
    """
    nodes = []
    for node in graph.nodes:
        if node.kind in ("conv2d", "gated_conv2d") and _is_of_patches(node):
            nodes.append(_patches(node))
            weight = node["weight"]
            node.inputs[0] = nodes[-1].output
            node.attributes["weight"] = weight.reshape(len(weight), -1, 1, 1)
            node.attributes["stride"] = (1, 1)
        nodes.append(node)
    graph.nodes = nodes


def _is_of_patches(node: Node) -> bool:
    kernel = node["weight"].shape[2:]
    apart = tuple(node["stride"]) == kernel and not any(node["padding"])
    large = math.prod(kernel) >= _LARGE_PATCH
    return large and apart and tuple(node["dilation"]) == (1, 1) and node["groups"] == 1


def _patches(node: Node) -> Node:
    """The node that makes channels of the pixels that a convolution's ``node`` reads."""
    x, (height, width) = node.inputs[0], node["weight"].shape[2:]

    def element(readers: Sequence[Any], image: Expr, place: Expr, y: Expr, x: Expr) -> Expr:
        channel, row = tirx.floordiv(place, height * width), tirx.floordiv(place, width)
        above, left = tirx.floormod(row, height), tirx.floormod(place, width)
        return readers[0](image, channel, y * height + above, x * width + left)

    shape = (x.shape[0], x.channels * height * width, *node.output.shape[2:])
    output = Value(f"{node.output.name}.patches", TensorType(shape, x.dtype))
    attributes = {"element": element, "operator": "patches", "rereads": False, "zeros": ()}
    return Node("compute", [x], output, node.path, attributes)


def _fold_absolute(graph: Graph) -> None:
    """The mean of absolute values is one node."""
    producers = graph.producers()
    for node in graph.nodes:
        producer = producers.get(node.inputs[0]) if node.kind == "channel_mean" else None
        if producer is not None and producer.attributes.get("operator") == "abs":
            node.inputs = producer.inputs
            node.attributes["absolute"] = True
    graph.remove_unused()


def _fuse_residual(graph: Graph) -> None:
    uses, producers = graph.uses(), graph.producers()

    def last_gated_first(value: Value) -> tuple[bool, int]:
        # A gated sum adds its active channels in place and leaves the others alone.
        producer = producers.get(value)
        if producer is None:
            return False, -1
        return producer.kind == "gated_conv2d", graph.nodes.index(producer)

    for node in [node for node in graph.nodes if node.kind == "add"]:
        for value in sorted(node.inputs, key=last_gated_first, reverse=True):
            producer = producers.get(value)
            if producer is not None and uses[value] == 1 and _takes_residual(producer):
                producer.inputs += [other for other in node.inputs if other is not value]
                producer.attributes["residual"] = True
                producer.attributes["clamp"] = node["clamp"]
                _absorb(graph, producers, producer, node)
                break


def _takes_residual(node: Node) -> bool:
    if node.kind not in _CONVOLUTIONS or node["residual"] or node["clamp"] != (None, None):
        return False
    # A gated depthwise kernel visits active channels only, and leaves others without the residual.
    depthwise = node["weight"].shape[1] == 1 and node["groups"] > 1
    return node.kind != "gated_conv2d" or not depthwise


def _clamped(producer: Node, node: Node) -> bool:
    bounds = (node["low"], node["high"])
    if producer.kind not in _CLAMPED or producer["clamp"] != (None, None):
        return False
    if not keeps_zero(bounds) and producer.kind not in ("conv2d", "linear"):
        return False
    producer.attributes["clamp"] = bounds
    return True
