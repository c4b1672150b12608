"""The state of kernel selection: where every value lies, which channels of it hold something.

Every tensor is either *dense* or *listed*: stored with all its planes in place, of which only the
active ones hold anything. A consumer that understands lists visits those; for one that does not,
the other planes are cleared first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

from headgate.compile.front.graph import Graph, Node, Value
from headgate.compile.kernels.gating import MergeLists
from headgate.compile.kernels.planes import ClearInactive, CopyPlanes
from headgate.compile.plan.steps import (
    ONCE,
    ActiveList,
    Buffer,
    Constant,
    GateCount,
    Kernel,
    Program,
    Repeat,
    Step,
)
from headgate.device.targets import Target

_INT = 4
FLOAT_BYTES = 4


@dataclass
class Storage:
    """Where a value lies and which of its channels hold something."""

    buffer: Buffer
    active: ActiveList | None = None
    cleared: bool = True
    """Inactive planes are zero, so that a reader of all planes reads the truth."""
    run: int = 1
    """Numbers of a flattened value that belong to one channel of the list."""
    at_least: float | None = None
    """A bound below every number, from the activation."""
    sums: tuple[Buffer, int] | None = None
    """Partial sums of each channel, and how many there are of each."""


class Workspace:
    """What has been decided so far about one graph on one target, and the steps it became."""

    def __init__(self, graph: Graph, target: Target) -> None:
        self.graph = graph
        self.target = target
        self.lanes = max(target.vector_fma_cycles)
        self.storage: dict[Value, Storage] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.remaining = graph.uses()
        self.wants_means = {
            n.inputs[0]
            for n in graph.nodes
            if n.kind == "channel_mean" and n.inputs[0].pixels > 1 and n.inputs[0].shape[0] == 1
        }
        self.gate_nodes = _gate_nodes(graph)
        self.lists: dict[Value, ActiveList] = {}
        """Of gates that have been listed."""
        self.program = Program([], [])

    # Memory

    def buffer(self, name: str, size: int) -> Buffer:
        """A buffer for ``size`` numbers."""
        return Buffer(name, size * FLOAT_BYTES)

    def new(
        self,
        node: Node,
        *,
        active: ActiveList | None = None,
        cleared: bool = True,
        run: int = 1,
        at_least: float | None = None,
    ) -> Storage:
        """Storage for a node's result; the arguments are those of :class:`Storage`."""
        buffer = Buffer(node.output.name, node.output.bytes)
        self.storage[node.output] = Storage(buffer, active, cleared, run, at_least)
        return self.storage[node.output]

    def of(self, value: Value) -> Storage:
        """Where a value lies; a constant operand becomes a weight that is copied in."""
        if value not in self.storage and value.data is not None:
            words = _words(value.data)
            storage = Storage(self.buffer(value.name, words.size))
            kernel = CopyPlanes(1, words.size, 4, 0)
            x = Constant(value.name, words)
            self.add("", "constant", kernel, {"x": x, "y": storage.buffer})
            self.storage[value] = storage
        return self.storage[value]

    def operand(self, value: Value, node: Node) -> Buffer | Constant:
        """A tensor that a kernel reads whole: a constant is read where the weights are."""
        if value.data is None:
            return self.dense(value).buffer
        return self.constant(node, value.name, value.data, value.data.dtype.type)

    def dense(self, value: Value) -> Storage:
        """The storage of a value whose every plane may be read."""
        storage = self.of(value)
        if storage.active is not None and not storage.cleared:
            active = storage.active
            pixels = value.size // active.channels
            kernel = ClearInactive(active.channels, pixels, self.lanes)
            arguments: dict[str, Buffer | Constant] = {
                "y": storage.buffer,
                "in_list": active.order,
                "in_count": active.count,
            }
            self.add(active.name, "clear_inactive", kernel, arguments)
            for other in self.storage.values():
                if other.buffer is storage.buffer:
                    other.cleared = True
        return storage

    def only_reader(self, value: Value) -> bool:
        """Whether the node at hand is the last to read what lies where ``value`` does."""
        buffer = self.storage[value].buffer
        left = sum(self.remaining[other] for other, s in self.storage.items() if s.buffer is buffer)
        return left == 1 and value.data is None

    # Steps

    def add(
        self,
        path: str,
        operator: str,
        kernel: Kernel,
        arguments: dict[str, Buffer | Constant],
        macs: tuple[int, int, int] = (0, 1, 1),
        lists: tuple[GateCount | None, GateCount | None] = (None, None),
        repeat: Repeat = ONCE,
    ) -> Step:
        """Appends a step; ``macs`` are those of one call."""
        per_pair, inputs, outputs = macs
        step = Step(
            path, operator, kernel, arguments, per_pair * repeat.times, inputs, outputs, *lists
        )
        step.repeat = repeat
        self.program.steps.append(step)
        return step

    def label(self, node: Node, operator: str | None = None) -> str:
        """The operator's name in reports; what exists only for a gate counts as gate."""
        return "gate" if node in self.gate_nodes else operator or node.kind

    def constant(
        self, node: Node, name: str, data: np.ndarray, dtype: type[np.generic] = np.float32
    ) -> Constant:
        """A weight; a module that is called twice keeps one copy."""
        data = np.ascontiguousarray(data, dtype)
        stem = f"{node.name}.{name}"
        for key in _numbered(stem):
            known = self.constants.setdefault(key, data)
            if known is data or (known.dtype == data.dtype and np.array_equal(known, data)):
                return Constant(key, known)
        raise AssertionError("an endless sequence ended")

    def new_list(self, name: str, channels: int) -> ActiveList:
        count = self._new_count(name, channels)
        # One slot more than channels: the writer's last write may fall behind the end.
        order = Buffer(f"{count.name}.list", (channels + 1) * _INT, pinned=True)
        active = ActiveList(count.name, count.index, channels, count.count, order)
        self.program.lists.append(active)
        return active

    def new_count(self, name: str, numbers: int) -> GateCount:
        """Where a pixel gate says how many of a tensor's ``numbers`` it computed in full."""
        count = self._new_count(name, numbers)
        self.program.lists.append(count)
        return count

    def _new_count(self, name: str, channels: int) -> GateCount:
        taken = {active.name for active in self.program.lists}
        name = next(key for key in _numbered(name) if key not in taken)
        buffer = Buffer(f"{name}.count", _INT, pinned=True)
        return GateCount(name, len(self.program.lists), channels, buffer)

    def merge(
        self, node: Node, parts: list[tuple[ActiveList | None, int]], offsets: tuple[int, ...]
    ) -> ActiveList | None:
        """The list of a sum (offsets all zero) or a concatenation; None: every channel is active.

        ``parts`` are the operands' lists and channels.
        """
        lists = [active for active, _ in parts]
        is_sum = not any(offsets)
        if not any(lists) or (is_sum and not all(lists)):
            return None
        channels = max(o + size for (_, size), o in zip(parts, offsets, strict=True))
        merged = self.new_list(node.name, channels)
        arguments: dict[str, Buffer | Constant] = {
            "out_list": merged.order,
            "out_count": merged.count,
        }
        for i, active in enumerate(lists):
            if active is not None:
                arguments |= {f"list{i}": active.order, f"count{i}": active.count}
        sizes = tuple(channels for _, channels in parts)
        gated = tuple(active is not None for active in lists)
        kernel = MergeLists(merged.channels, sizes, offsets, gated)
        self.add(merged.name, "merge_lists", kernel, arguments)
        return merged


def each_image(values: dict[str, Value]) -> Repeat:
    """One call for each image: the arguments' names and the batches that they stand for."""
    times = next(iter(values.values())).shape[0]
    return Repeat(times, {name: value.bytes // times for name, value in values.items()})


def list_arguments(active: ActiveList | None) -> dict[str, Buffer | Constant]:
    """A kernel's arguments for a listed input, none for a dense one."""
    return {"in_list": active.order, "in_count": active.count} if active is not None else {}


def _words(data: np.ndarray) -> np.ndarray:
    """The bytes of a constant of any type, as numbers to be copied."""
    raw = np.ascontiguousarray(data).tobytes()
    return np.frombuffer(raw + bytes(-len(raw) % FLOAT_BYTES), np.float32)


def _numbered(stem: str) -> Iterator[str]:
    """``stem``, ``stem.2``, ``stem.3``, ...: one module may be called several times."""
    yield stem
    for number in count(2):
        yield f"{stem}.{number}"


def _gate_nodes(graph: Graph) -> set[Node]:
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
