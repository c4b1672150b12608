"""The network between Relax and the schedules: a list of nodes in the order they run.

Few kinds of node, each one thing the schedules know (``KINDS``); whatever else Relax has stays a
``relax`` node and is lowered by TVM's own legalisation.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

KINDS = {
    "conv2d": "x -> y; weight, bias; stride, padding (top, left, bottom, right), dilation, groups",
    "gated_conv2d": "x, gate -> y; as conv2d, then gate * y + shift where the gate is not zero",
    "pixel_gated_conv2d": "x -> y; as conv2d, all inputs only where a part of them asks for it",
    "place_channels": "x -> constant, and x in some channels; only behind what is no convolution",
    "affine": "x -> scale * x + shift, per channel",
    "linear": "x -> y; weight (outputs, inputs), bias",
    "max_pool2d": "x -> y; kernel, stride, padding, dilation",
    "avg_pool2d": "x -> y; the border counts",
    "channel_mean": "x -> mean over pixels; absolute",
    "clamp": "x -> min(max(x, low), high); either bound may be None",
    "abs": "x -> |x|",
    "add": "a, b -> a + b, equal shapes",
    "concat": "xs -> their channels one after the other",
    "reshape": "x -> the same numbers in another shape",
    "keep_top_k": "saliency -> what exceeds its (k+1)-th largest, else zero",
    "relax": "anything; lowered by TVM",
}


@dataclass(eq=False)
class Value:
    """A tensor: an input, a constant (with data) or the result of a node."""

    name: str
    shape: tuple[int, ...]
    data: np.ndarray | None = None
    dtype: str = "float32"
    """Anything else only between operators that TVM lowers."""

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def bytes(self) -> int:
        return self.size * np.dtype(self.dtype).itemsize

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
