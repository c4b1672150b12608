"""The network between PyTorch's operators and the schedules: a list of nodes in order.

Few kinds of node, each one thing the schedules know (``KINDS``); whatever else PyTorch has is a
``compute`` node, which says how one number of its result follows from its inputs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headgate.device.tensor_type import TensorType

KINDS = {
    "conv2d": "x -> y; weight, bias; stride, padding (top, left, bottom, right), dilation, groups",
    "gated_conv2d": "x, gate -> y; as conv2d, then gate * y + shift where the gate is not zero; "
    "follows: only y there",
    "pixel_gated_conv2d": "x -> y; as conv2d, all inputs only where a part of them asks for it",
    "place_channels": "x -> constant, and x in some channels; only behind what is no convolution",
    "affine": "x -> scale * x + shift, per channel",
    "linear": "rows of x -> rows of y; weight (outputs, inputs), bias",
    "matmul": "a (..., M, K), b (..., K, N) -> their products, one for each leading index",
    "max_pool2d": "x -> y; kernel, stride, padding, dilation",
    "avg_pool2d": "x -> y; the border counts",
    "channel_mean": "x -> mean over pixels; absolute",
    "clamp": "x -> min(max(x, low), high); either bound may be None",
    "add": "a, b -> a + b, equal shapes",
    "concat": "xs -> one after the other along axis",
    "reshape": "x -> the same numbers in another shape",
    "keep_top_k": "saliency -> what exceeds its (k+1)-th largest, else zero",
    "scan": "x -> what function (add, mul) makes of all numbers up to each along axis",
    "sort": "rows of x -> the places of their numbers in order; descending",
    "compute": "xs -> element(readers, *indices): one number of the result as TIR, where "
    "readers[i](*indices) is one of xs[i]; reduces: it is a sum or the like; rereads: it reads "
    "numbers of its inputs several times; zeros: the inputs of which a zero makes a zero in its "
    "place; macs",
}
"""What the schedules know. Images of a batch, in the first dimension, are computed in turn."""


@dataclass(eq=False)
class Value:
    """A tensor: an input, a constant (with data) or the result of a node."""

    name: str
    type: TensorType
    """Of another dtype than float32 only between ``compute`` nodes and the like."""
    data: np.ndarray | None = None

    @classmethod
    def constant(cls, name: str, data: np.ndarray) -> Value:
        return cls(name, TensorType.of(data), data)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.shape

    @property
    def dtype(self) -> str:
        return self.type.dtype

    @property
    def size(self) -> int:
        return self.type.size

    @property
    def bytes(self) -> int:
        return self.type.bytes

    @property
    def channels(self) -> int:
        return self.shape[1] if len(self.shape) > 1 else 1

    @property
    def pixels(self) -> int:
        """Numbers in one channel."""
        return int(np.prod(self.shape[2:], dtype=np.int64))


@dataclass(eq=False)
class Node:
    """One operation; ``path`` is the module it came from, for people to read."""

    kind: str
    inputs: list[Value]
    output: Value
    path: str
    attributes: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.attributes[key]

    @property
    def name(self) -> str:
        """For reports: the module, or the result's name where there is none."""
        return self.path or self.output.name


@dataclass
class Graph:
    """Nodes in order, and which values enter and leave."""

    inputs: list[Value]
    nodes: list[Node]
    outputs: list[Value]
    module: Any = None
    """The ``torch.fx.GraphModule`` that it was read from."""
    origins: dict[Value, Any] = field(default_factory=dict)
    """The node of that module that a value stands for; steps on the way to one have none."""

    def uses(self) -> Counter[Value]:
        """How often each value is read, leaving the network included."""
        counts: Counter[Value] = Counter(self.outputs)
        for node in self.nodes:
            counts.update(node.inputs)
        return counts

    def producers(self) -> dict[Value, Node]:
        return {node.output: node for node in self.nodes}

    def remove_unused(self) -> None:
        """Drops nodes whose results nobody reads."""
        needed = set(self.outputs)
        kept = []
        for node in reversed(self.nodes):
            if node.output in needed:
                needed.update(node.inputs)
                kept.append(node)
        self.nodes = kept[::-1]


def keeps_zero(clamp: tuple[float | None, float | None]) -> bool:
    """Whether an activation leaves zero alone, as skipped channels need."""
    low, high = clamp
    return (low is None or low <= 0) and (high is None or high >= 0)
