"""Where a network of codes has codes: the steps that its compiled form computes with them.

A step is a layer and what is computed along with it: the batch norm behind a convolution, a
residual sum, an activation. Codes are made at the end of a step. These are the rules by which the
compiler fuses and quantises (``compile/front``), over the graph of ``torch.export``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx

from headgate.train.tracing import depending_on, operator_name

CONVOLUTIONS = {
    "aten.conv1d",
    "aten.conv2d",
    "headgate.gated_conv2d",
    "headgate.following_conv2d",
    "headgate.pixel_gated_conv2d",
}
PIXEL_GATE = "headgate.pixel_gated_conv2d"
LINEAR = "aten.linear"
_SUM = "aten.add"
_CLAMPS = {"aten.relu", "aten.hardtanh", "aten.relu6", "aten.clamp", "aten.clamp_min"}
_MOVES = {
    *("aten.max_pool2d", "aten.cat", "aten.flatten", "aten.view", "aten.reshape", "aten.squeeze"),
    *("aten.unsqueeze", "aten.dropout", "aten.contiguous"),
}
_POSITIVE = {"aten.sigmoid", "aten.hardsigmoid", "aten.softplus"}
_FUNCTIONS = _POSITIVE | {
    *("aten.hardswish", "aten.silu", "aten.gelu", "aten.mish", "aten.tanh", "aten.elu"),
    *("aten.leaky_relu", "aten.prelu"),
}
"""Functions of single numbers, which make nothing negative of what is not: tables of codes."""
_MEANS = {"aten.mean", "aten.adaptive_avg_pool2d", "aten.avg_pool2d"}


@dataclass(eq=False)
class Step:
    """Nodes of a graph that are computed together.

    Attributes:
        head, tail: the first and the last of ``nodes``.
        operands: the nodes that it reads as codes; a gate is none of them.
        norm: the batch norm that is folded into the weights of ``head``.
        low: the least number that its activation lets through, None without one.
    """

    head: fx.Node
    operands: list[fx.Node]
    tail: fx.Node = field(init=False)
    nodes: list[fx.Node] = field(init=False)
    norm: fx.Node | None = None
    summed: bool = False
    clamped: bool = False
    low: float | None = None

    def __post_init__(self) -> None:
        self.tail, self.nodes = self.head, [self.head]

    @property
    def kind(self) -> str:
        return operator_name(self.head).removesuffix("_")

    @property
    def has_weights(self) -> bool:
        return self.kind in CONVOLUTIONS or self.kind == LINEAR

    def take(self, node: fx.Node) -> None:
        """``node`` becomes the end of this step."""
        self.tail = node
        self.nodes.append(node)


@dataclass(frozen=True)
class Coded:
    """What of a graph is codes.

    Attributes:
        steps: by each of their nodes, the steps that compute with codes.
        written: the nodes whose results are made as codes.
        read: those whose results are numbers, and are turned into codes where steps read them.
        groups: which values have one scale together: a number for each of ``written`` and ``read``.
        unsigned: for each group, whether none of its values can be negative.
    """

    steps: dict[fx.Node, Step]
    written: set[fx.Node]
    read: set[fx.Node]
    groups: dict[fx.Node, int]
    unsigned: list[bool]


def find_codes(graph: fx.Graph) -> Coded:
    """What of an exported graph, in evaluation mode, the compiler makes codes of."""
    images = {node for node in graph.nodes if node.op == "placeholder"}
    found = _Finder(depending_on(graph, images)).steps(graph)
    codes, coded = set(images), []
    for step in found:
        if step.has_weights or all(value in codes for value in step.operands):
            coded.append(step)
            codes.add(step.tail)
    coded = _without_unread_functions(coded)
    operands = {value for step in coded for value in step.operands}
    # A layer whose result nobody reads as codes gives numbers: a prediction, a gate's saliency.
    written = {step.tail for step in coded if step.kind != LINEAR or step.tail in operands}
    read = operands - written
    groups = _groups(coded, [node for node in graph.nodes if node in written | read])
    positive = _never_negative(found)
    unsigned = [True] * (max(groups.values(), default=-1) + 1)
    for value, group in groups.items():
        unsigned[group] &= value in positive
    members = {node: step for step in coded for node in step.nodes}
    return Coded(members, written, read, groups, unsigned)


def _without_unread_functions(steps: list[Step]) -> list[Step]:
    """A function whose result nobody reads as codes stays as exact as it is.

    What it read is then read by one less.
    """
    operands = {value for step in steps for value in step.operands}
    kept = [step for step in steps if step.kind not in _FUNCTIONS or step.tail in operands]
    return kept if len(kept) == len(steps) else _without_unread_functions(kept)


class _Finder:
    """Goes over a graph and adds each node to the step in front of it, or begins one with it."""

    def __init__(self, varying: set[fx.Node]) -> None:
        self._varying = varying
        self._by_tail: dict[fx.Node, Step] = {}

    def steps(self, graph: fx.Graph) -> list[Step]:
        self._place = {node: index for index, node in enumerate(graph.nodes)}
        for node in graph.nodes:
            if node.op == "call_function" and node in self._varying and _is_tensor(node):
                self._add(node, operator_name(node).removesuffix("_"))
        return sorted(self._by_tail.values(), key=lambda step: self._place[step.tail])

    def _add(self, node: fx.Node, name: str) -> None:
        if name in CONVOLUTIONS or name == LINEAR:
            if _args(node)[1] not in self._varying:
                self._begin(node, node.args[:1])
        elif name == "aten.batch_norm":
            step = self._in_front(node, lambda s: s.kind.startswith("aten.conv") and s.norm is None)
            if step is not None and step.tail is step.head:
                self._extend(step, node)
                step.norm = node
        elif name == "headgate.place_channels":
            step = self._in_front(node, lambda s: s.kind.startswith("aten.conv"))
            if step is not None and not step.summed:
                self._extend(step, node)
        elif name == _SUM:
            self._sum(node)
        elif name in _CLAMPS:
            self._clamp(node, name)
        elif name in _FUNCTIONS:
            step = self._in_front(node, lambda s: s.kind in _FUNCTIONS and not s.clamped)
            if step is None:
                self._begin(node, node.args[:1])
            else:
                self._extend(step, node)
        elif name in _MOVES or name in _MEANS:
            operands = _args(node)[0] if name == "aten.cat" else node.args[:1]
            if name != "aten.mean" or _is_over_pixels(node):
                self._begin(node, operands)

    def _sum(self, node: fx.Node) -> None:
        values = [value for value in node.args if isinstance(value, fx.Node)]
        same = len({_shape(value) for value in values}) == 1
        if len(values) != 2 or not self._varying.issuperset(values) or not same or node.kwargs:
            return
        # The compiler's order: a gated convolution takes the sum, else the last one does.
        for value in sorted(values, key=self._gated_then_last, reverse=True):
            step = self._by_tail.get(value)
            if step is not None and len(value.users) == 1 and _takes_sum(step):
                step.operands += [other for other in values if other is not value]
                step.summed = True
                self._extend(step, node)
                return
        self._begin(node, values)

    def _gated_then_last(self, value: fx.Node) -> tuple[bool, int]:
        step = self._by_tail.get(value)
        if step is None:
            return False, -1
        return step.kind in ("headgate.gated_conv2d", "headgate.following_conv2d"), self._place[
            value
        ]

    def _clamp(self, node: fx.Node, name: str) -> None:
        step = self._in_front(node, _takes_clamp)
        if step is None:
            step = self._begin(node, node.args[:1])
        else:
            self._extend(step, node)
        step.clamped, step.low = True, _low(node, name)

    def _in_front(self, node: fx.Node, takes: Callable[[Step], bool]) -> Step | None:
        """The step whose result only ``node`` reads."""
        value: Any = node.args[0]
        step = self._by_tail.get(value)
        return step if step is not None and len(value.users) == 1 and takes(step) else None

    def _begin(self, node: fx.Node, operands: Any) -> Step:
        step = Step(node, list(operands))
        self._by_tail[node] = step
        return step

    def _extend(self, step: Step, node: fx.Node) -> None:
        del self._by_tail[step.tail]
        step.take(node)
        self._by_tail[node] = step


def _args(node: fx.Node) -> Any:
    """Its arguments, whose types its operator has."""
    return node.args


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), Tensor)


def _shape(node: fx.Node) -> str:
    return str(tuple(node.meta["val"].shape))


def _is_over_pixels(node: fx.Node) -> bool:
    x, *rest = _args(node)
    rank = x.meta["val"].ndim
    return rank == 4 and bool(rest) and sorted(d % rank for d in rest[0] or ()) == [2, 3]


def _takes_sum(step: Step) -> bool:
    if step.kind not in CONVOLUTIONS or step.summed or step.clamped:
        return False
    if step.kind.startswith("aten.") or step.kind == PIXEL_GATE:
        return True
    # A gated depthwise convolution computes active channels only, of which a sum needs all.
    args = _args(step.head)
    return bool(args[1].meta["val"].shape[1] != 1 or args[-1] == 1)


def _takes_clamp(step: Step) -> bool:
    return not step.clamped and not (step.kind in _MOVES and step.kind != "aten.max_pool2d")


def _low(node: fx.Node, name: str) -> float | None:
    if name in ("aten.relu", "aten.relu6"):
        return 0.0
    low = node.args[1] if len(node.args) > 1 else -1.0 if name == "aten.hardtanh" else None
    return float(low) if isinstance(low, int | float) else None


def _never_negative(steps: list[Step]) -> set[fx.Node]:
    """The ends of steps whose results cannot be below zero."""
    found: set[fx.Node] = set()
    for step in steps:
        keeps = not step.has_weights and found.issuperset(step.operands)
        keeps |= any(operator_name(node).removesuffix("_") in _POSITIVE for node in step.nodes)
        if keeps or (step.low is not None and step.low >= 0):
            found.add(step.tail)
    return found


def _groups(coded: list[Step], values: list[fx.Node]) -> dict[fx.Node, int]:
    """Numbers for the sets of values that have one scale: what a step moves, and its result."""
    parent: dict[fx.Node, fx.Node] = {}

    def root(value: fx.Node) -> fx.Node:
        while value in parent:
            value = parent[value]
        return value

    for step in coded:
        if step.kind in _MOVES:
            for value in step.operands:
                if root(value) is not root(step.tail):
                    parent[root(value)] = root(step.tail)
    numbers: dict[fx.Node, int] = {}
    return {value: numbers.setdefault(root(value), len(numbers)) for value in values}
