"""The memory of a network while its kernels are selected: where values lie, what they list.

Every tensor is either *dense* or *listed*: stored with all its planes in place, of which only the
active ones hold anything. A consumer that understands lists visits those; for one that does not,
the other planes are cleared first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from headgate.compile.front.graph import Graph, Node, Value
from headgate.compile.isa import Isa, isa_for
from headgate.compile.kernels.kernel import Kernel
from headgate.compile.kernels.lists import MergeLists
from headgate.compile.kernels.registry import find_kernel
from headgate.compile.plan.readers import averaged, gate_nodes
from headgate.compile.plan.steps import (
    ONCE,
    ActiveList,
    Buffer,
    Constant,
    GateCount,
    Program,
    Repeat,
    Step,
)
from headgate.device.targets import Target
from headgate.device.tensor_type import FLOAT16, FLOAT32, INT8, INT32, UINT8, TensorType

Arguments = dict[str, Buffer | Constant]


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
    sums: Buffer | None = None
    """Partial sums (channels, lanes) of each channel."""


class Workspace:
    """What has been decided so far about one graph on one target, and the steps it became."""

    def __init__(self, graph: Graph, target: Target) -> None:
        self._target = target
        self.storage: dict[Value, Storage] = {}
        self.remaining = graph.uses()
        self.lists: dict[Value, ActiveList] = {}
        """Of gates that have been listed."""
        self.program = Program([], [])
        self.averaged = averaged(graph)
        self.gate_nodes = gate_nodes(graph)
        self._constants: dict[str, np.ndarray] = {}

    def isa(self, *dtypes: str) -> Isa:
        """The instructions for operands and results of these types; codes of any kind are int8.

        Those of float16 convert from and to float32, too.
        """
        coded = any(dtype in (INT8, UINT8) for dtype in dtypes)
        dtype = FLOAT16 if FLOAT16 in dtypes else dtypes[0]
        return isa_for(self._target, INT8 if coded else dtype)

    def kernel(self, operator: str, *dtypes: str, gated: bool = False) -> Any:
        """The function that makes the kernel of ``operator``.

        ``dtypes`` are those of its operands, then the result's; one is enough for float32.
        """
        isa = self.isa(*dtypes)
        make = partial(find_kernel(operator, isa, gated=gated).of, isa)
        return make if isa.dtype == FLOAT32 else partial(make, dtypes=dtypes)

    def constants(self, node: Node, kernel: Kernel) -> Arguments:
        """The arguments that are weights of ``node``, as its kernel takes them."""
        found = kernel.constants(node.attributes)
        return {name: self.constant(node, name, a, str(a.dtype)) for name, a in found.items()}

    # Memory

    def new(self, node: Node, buffer: Buffer | None = None, **known: Any) -> Storage:
        """Storage for a node's result, in a buffer of its own unless one is given.

        ``known`` are the other fields of :class:`Storage`.
        """
        storage = Storage(buffer or Buffer(node.output.name, node.output.type), **known)
        self.storage[node.output] = storage
        return storage

    def of(self, value: Value) -> Storage:
        """Where a value lies; a constant operand becomes a weight that is copied in."""
        if value not in self.storage and value.data is not None:
            words = _words(value.data)
            storage = Storage(Buffer(value.name, TensorType.of(words)))
            kernel = self.kernel("copy_planes", FLOAT32)(channels=1, pixels=words.size)
            x = Constant(value.name, words)
            self.add("", "constant", kernel, {"x": x, "y": storage.buffer})
            self.storage[value] = storage
        return self.storage[value]

    def operand(self, value: Value, node: Node) -> Buffer | Constant:
        """A tensor that a kernel reads whole: a constant is read where the weights are."""
        if value.data is None:
            return self.dense(value).buffer
        return self.constant(node, value.name, value.data, value.dtype)

    def dense(self, value: Value) -> Storage:
        """The storage of a value whose every plane may be read."""
        storage = self.of(value)
        if storage.active is not None and not storage.cleared:
            active = storage.active
            kernel = self.kernel("clear_inactive", value.dtype)(
                channels=active.channels, pixels=value.size // active.channels
            )
            arguments = {"y": storage.buffer, **list_arguments(active)}
            self.add(active.name, "clear_inactive", kernel, arguments)
            for other in self.storage.values():
                if other.buffer is storage.buffer:
                    other.cleared = True
        return storage

    def only_reader(self, value: Value) -> bool:
        """Whether the node at hand is the last to read what lies where ``value`` does."""
        if value.data is not None:
            return False
        buffer = self.storage[value].buffer
        left = sum(self.remaining[other] for other, s in self.storage.items() if s.buffer is buffer)
        return left == 1

    def constant(self, node: Node, name: str, data: np.ndarray, dtype: str = FLOAT32) -> Constant:
        """A weight; a module that is called twice keeps one copy."""
        data = np.ascontiguousarray(data, dtype)
        stem = f"{node.name}.{name}"
        for key in _numbered(stem):
            known = self._constants.setdefault(key, data)
            if known is data or (known.dtype == data.dtype and np.array_equal(known, data)):
                return Constant(key, known)
        raise AssertionError("an endless sequence ended")

    # Steps

    def add(
        self,
        path: str,
        operator: str,
        kernel: Kernel,
        arguments: Arguments,
        macs: tuple[int, int, int] = (0, 1, 1),
        lists: tuple[GateCount | None, GateCount | None] = (None, None),
        repeat: Repeat = ONCE,
    ) -> Step:
        """Appends a step with its kernel's scratch; ``macs`` are those of one call.

        Of ``arguments`` it gets those that its kernel has.
        """
        for name, tensor in kernel.scratch().items():
            arguments = arguments | {name: Buffer(f"{path}.{name}", tensor)}
        taken = {name: arguments[name] for name, _ in kernel.parameters() if name in arguments}
        step = Step(path, operator, kernel, taken, *macs, *lists, repeat=repeat)
        step.macs_per_pair *= repeat.times
        self.program.steps.append(step)
        return step

    def label(self, node: Node, operator: str | None = None) -> str:
        """The operator's name in reports; what exists only for a gate counts as gate."""
        return "gate" if node in self.gate_nodes else operator or node.kind

    # Lists

    def new_list(self, name: str, channels: int) -> ActiveList:
        count = self._new_count(name, channels)
        # One slot more than channels: the writer's last write may fall behind the end.
        order = Buffer(f"{count.name}.list", TensorType((channels + 1,), INT32), pinned=True)
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
        buffer = Buffer(f"{name}.count", TensorType((1,), INT32), pinned=True)
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
        arguments = list_arguments(merged, "out")
        for i, active in enumerate(lists):
            if active is not None:
                arguments |= {f"list{i}": active.order, f"count{i}": active.count}
        sizes = tuple(channels for _, channels in parts)
        gated = tuple(active is not None for active in lists)
        kernel = MergeLists(merged.channels, sizes, offsets, gated)
        self.add(merged.name, "merge_lists", kernel, arguments)
        return merged


def each(times: int, **values: Value) -> Repeat:
    """A call for each of ``times`` equal parts of some arguments' values, images for one."""
    return Repeat(times, {name: value.bytes // times for name, value in values.items()})


def each_image(**values: Value) -> Repeat:
    """One call for each image: the arguments' names and the batches that they stand for."""
    return each(next(iter(values.values())).shape[0], **values)


def list_arguments(active: ActiveList | None, side: str = "in") -> Arguments:
    """A kernel's arguments for a listed input or output, none for a dense one."""
    if active is None:
        return {}
    return {f"{side}_list": active.order, f"{side}_count": active.count}


def _words(data: np.ndarray) -> np.ndarray:
    """The bytes of a constant of any type, as numbers to be copied."""
    raw = np.ascontiguousarray(data).tobytes()
    return np.frombuffer(raw + bytes(-len(raw) % np.dtype(FLOAT32).itemsize), FLOAT32)


def _numbered(stem: str) -> Iterator[str]:
    """``stem``, ``stem.2``, ``stem.3``, ...: one module may be called several times."""
    yield stem
    for number in count(2):
        yield f"{stem}.{number}"
