"""What a graph computes, in float64 and without any of the compiler's kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from headgate.compile.front.graph import Graph, Node, Value


def kinds(graph: Graph) -> list[str]:
    return [node.kind for node in graph.nodes]


def evaluate(graph: Graph, *inputs: Tensor) -> np.ndarray:
    """The first output for inputs (N, ...), from the definitions in ``KINDS``."""
    values: dict[Value, Tensor] = dict(zip(graph.inputs, inputs, strict=True))
    for node in graph.nodes:
        operands = [_operand(value, values) for value in node.inputs]
        values[node.output] = _clamped(node, _COMPUTE[node.kind](node, *operands))
    return values[graph.outputs[0]].numpy()


def _operand(value: Value, values: dict[Value, Tensor]) -> Tensor:
    return values[value] if value.data is None else torch.from_numpy(value.data).double()


def _clamped(node: Node, y: Tensor) -> Tensor:
    low, high = node.attributes.get("clamp", (None, None))
    return y if low is None and high is None else torch.clamp(y, low, high)


def _wide(vector: Any, like: Tensor) -> Tensor:
    return torch.as_tensor(vector).double().reshape(1, -1, *[1] * (like.ndim - 2))


def _padded(node: Node, x: Tensor, value: float) -> Tensor:
    top, left, bottom, right = node["padding"]
    return F.pad(x, (left, right, top, bottom), value=value)


def _place_channels(node: Node, x: Tensor, channels: str = "channels") -> Tensor:
    y = _wide(node["constant"], x).repeat(len(x), 1, *x.shape[2:])
    y[:, list(node[channels])] = x
    return y


def _pixel_gated_conv2d(node: Node, x: Tensor, *residual: Tensor) -> Tensor:
    top, left, *_ = node["padding"]
    y = torch.ops.headgate.pixel_gated_conv2d(
        x,
        *(torch.from_numpy(np.ascontiguousarray(node[key])).double() for key in _PIXEL_GATE),
        node["stride"],
        (top, left),
        node["dilation"],
        node["partitions"],
        node["grouped"],
        node["shuffle"],
        node["block"],
    )
    return y + residual[0] if residual else y


_PIXEL_GATE = (
    *("weight", "gate_scale", "gate_bias"),
    *("base_scale", "base_bias", "full_scale", "full_bias"),
)


def _conv2d(node: Node, x: Tensor, *residual: Tensor) -> Tensor:
    y = F.conv2d(
        _padded(node, x, 0.0),
        torch.from_numpy(node["weight"]).double(),
        torch.from_numpy(node["bias"]).double(),
        node["stride"],
        0,
        node["dilation"],
        node["groups"],
    )
    if "placed" in node.attributes:
        y = _place_channels(node, y, "placed")
    return y + residual[0] if residual else y


def _gated_conv2d(node: Node, x: Tensor, gate: Tensor, *residual: Tensor) -> Tensor:
    u = _conv2d(node, x)
    wide = gate[:, :, None, None]
    scaled = u if node.attributes.get("follows") else wide * u + _wide(node["shift"], u)
    y = torch.where(wide != 0, scaled, torch.zeros_like(u))
    return y + residual[0] if residual else y


def _keep_top_k(node: Node, saliency: Tensor) -> Tensor:
    channels, keep = saliency.shape[1], node["k"]
    ordered = saliency.sort(1, descending=True).values
    threshold = ordered[:, keep : keep + 1] if keep < channels else ordered[:, :1] * 0 - torch.inf
    return torch.where(saliency > threshold, saliency, torch.zeros_like(saliency))


def _affine(node: Node, x: Tensor) -> Tensor:
    return x * _wide(node["scale"], x) + _wide(node["shift"], x)


def _linear(node: Node, x: Tensor) -> Tensor:
    weight = torch.from_numpy(np.ascontiguousarray(node["weight"])).double()
    return F.linear(x.flatten(1), weight, torch.from_numpy(node["bias"]).double())


def _max_pool2d(node: Node, x: Tensor) -> Tensor:
    x = _padded(node, x, -torch.inf)
    return F.max_pool2d(x, node["kernel"], node["stride"], 0, node["dilation"])


def _avg_pool2d(node: Node, x: Tensor) -> Tensor:
    return F.avg_pool2d(_padded(node, x, 0.0), node["kernel"], node["stride"])


def _channel_mean(node: Node, x: Tensor) -> Tensor:
    mean = (x.abs() if node["absolute"] else x).mean((2, 3))
    return mean.reshape(len(x), *node.output.shape[1:])


_COMPUTE: dict[str, Any] = {
    "conv2d": _conv2d,
    "gated_conv2d": _gated_conv2d,
    "pixel_gated_conv2d": _pixel_gated_conv2d,
    "place_channels": _place_channels,
    "affine": _affine,
    "linear": _linear,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "channel_mean": _channel_mean,
    "clamp": lambda node, x: torch.clamp(x, node["low"], node["high"]),
    "abs": lambda _, x: x.abs(),
    "add": lambda _, a, b: a + b,
    "concat": lambda _, *xs: torch.cat(xs, 1),
    "reshape": lambda node, x: x.reshape(len(x), *node.output.shape[1:]),
    "keep_top_k": _keep_top_k,
}
