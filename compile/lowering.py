"""From the fused graph to steps: which kernel, with or without lists, and what may lie where.

Every tensor is either *dense* or *listed*: stored with all its planes in place, of which only the
active ones hold anything. A consumer that understands lists visits those; for one that does not,
the other planes are cleared first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from headgate.compile.fuse import keeps_zero
from headgate.compile.graph import Graph, Node, Value
from headgate.compile.schedules.conv2d import ConvKernel
from headgate.compile.schedules.gating import ChannelMean, KeepTopK, ListActive, MergeLists
from headgate.compile.schedules.legalized import legalize
from headgate.compile.schedules.linear import Linear
from headgate.compile.schedules.microkernel import Epilogue
from headgate.compile.schedules.planes import ClearInactive, Combine, CopyPlanes
from headgate.compile.schedules.tiling import ConvShape, choose_tiling
from headgate.compile.schedules.window import Depthwise, Pool, scratch_bytes, window_lanes
from headgate.compile.steps import ActiveList, Buffer, Constant, Kernel, Program, Step
from headgate.compile.targets import Target

_INT = 4
_FLOAT = 4


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


class Lowering:
    """Lowers one graph for one target."""

    def __init__(self, graph: Graph, target: Target) -> None:
        self.graph = graph
        self.target = target
        self.lanes = max(target.vector_fma_cycles)
        self.storage: dict[Value, Storage] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.remaining = graph.uses()
        self.wants_means = {
            n.inputs[0] for n in graph.nodes if n.kind == "channel_mean" and n.inputs[0].pixels > 1
        }
        self.gate_nodes = _gate_nodes(graph)
        self.program = Program([], [])

    def run(self) -> Program:
        """The steps of the whole network.

        Raises:
            UnsupportedOperator: a node that TVM cannot lower either.
        """
        for value in self.graph.inputs:
            self.storage[value] = Storage(self.buffer(value.name, value.size))
            self.program.inputs.append(self.storage[value].buffer)
        for node in self.graph.nodes:
            _LOWER[node.kind](self, node)
            self.remaining.subtract(node.inputs)
        for value in self.graph.outputs:
            self.program.outputs.append(self.dense(value).buffer)
        return self.program

    # Memory

    def buffer(self, name: str, size: int) -> Buffer:
        """A buffer for ``size`` numbers."""
        return Buffer(name, size * _FLOAT)

    def new(self, node: Node, **properties: object) -> Storage:
        """Storage for a node's result."""
        storage = Storage(self.buffer(node.output.name, node.output.size))
        self.storage[node.output] = replace(storage, **properties)  # type: ignore[arg-type]
        return self.storage[node.output]

    def of(self, value: Value) -> Storage:
        """Where a value lies; a constant operand becomes a weight that is copied in."""
        if value not in self.storage and value.data is not None:
            storage = Storage(self.buffer(value.name, value.size))
            constant = Constant(value.name, value.data.astype(np.float32))
            kernel = CopyPlanes(1, value.size, 4, 0)
            self.add("", "constant", kernel, {"x": constant, "y": storage.buffer})
            self.storage[value] = storage
        return self.storage[value]

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

    def only_reader(self, node: Node, value: Value) -> bool:
        """Whether ``node`` is the last to read what lies where ``value`` does."""
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
        lists: tuple[ActiveList | None, ActiveList | None] = (None, None),
    ) -> None:
        self.program.steps.append(Step(path, operator, kernel, arguments, *macs, *lists))

    def label(self, node: Node, operator: str | None = None) -> str:
        """The operator's name in reports; what exists only for a gate counts as gate."""
        return "gate" if node in self.gate_nodes else operator or node.kind

    def constant(self, node: Node, name: str, data: np.ndarray) -> Constant:
        """A weight; a module that is called twice keeps one copy."""
        data = np.asarray(data, np.float32)
        stem = f"{node.path or node.output.name}.{name}"
        for key in _numbered(stem):
            known = self.constants.setdefault(key, data)
            if known is data or np.array_equal(known, data):
                return Constant(key, known)
        raise AssertionError("an endless sequence ended")

    def new_list(self, name: str, channels: int) -> ActiveList:
        taken = {active.name for active in self.program.lists}
        name = next(key for key in _numbered(name) if key not in taken)
        # One slot more than channels: the writer's last write may fall behind the end.
        active = ActiveList(
            name,
            len(self.program.lists),
            channels,
            Buffer(f"{name}.list", (channels + 1) * _INT, pinned=True),
            Buffer(f"{name}.count", _INT, pinned=True),
        )
        self.program.lists.append(active)
        return active

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
        merged = self.new_list(node.output.name, channels)
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


def _numbered(stem: str) -> Iterator[str]:
    """``stem``, ``stem.2``, ``stem.3``, ...: one module may be called several times."""
    yield stem
    for number in count(2):
        yield f"{stem}.{number}"


def _listed(active: ActiveList | None) -> dict[str, Buffer | Constant]:
    return {"in_list": active.order, "in_count": active.count} if active is not None else {}


def _gate_nodes(graph: Graph) -> set[Node]:
    """Nodes whose results only gates read."""
    found: set[Node] = set()
    for node in reversed(graph.nodes):
        readers = [n for n in graph.nodes if node.output in n.inputs]
        if (
            node.output not in graph.outputs
            and readers
            and all(
                reader in found
                or (
                    reader.kind == "gated_conv2d"
                    and reader.inputs[1] is node.output
                    and node.output not in (reader.inputs[0], *reader.inputs[2:])
                )
                for reader in readers
            )
        ):
            found.add(node)
    return found


def _shape(node: Node) -> ConvShape:
    x = node.inputs[0]
    kernel = node["weight"].shape[2:] if "weight" in node.attributes else node["kernel"]
    # What a folded batch norm scales may have fewer or more dimensions than an image.
    height, width = x.shape[2:] if len(x.shape) == 4 else (1, x.pixels)
    return ConvShape(
        x.channels,
        node.output.channels,
        height,
        width,
        tuple(kernel),
        node["stride"],
        node["padding"],
        node["dilation"],
        node.attributes.get("groups", x.channels),
    )


def _leaves_alone(clamp: tuple[float | None, float | None], at_least: float | None) -> bool:
    """Whether the activation leaves numbers that are at least ``at_least`` as they are."""
    low, high = clamp
    return high is None and (low is None or (at_least is not None and at_least >= low))


def _convolution(self: Lowering, node: Node) -> None:
    shape, gated = _shape(node), node.kind == "gated_conv2d"
    depthwise = shape.group_in == 1 and shape.groups > 1
    x = self.dense(node.inputs[0]) if depthwise else self.of(node.inputs[0])
    out_list = None
    if gated:
        gate = self.dense(node.inputs[1]).buffer
        out_list = self.new_list(node.path or node.output.name, shape.out_channels)
        self.add(
            out_list.name,
            "gate",
            ListActive(shape.out_channels),
            {"gate": gate, "out_list": out_list.order, "out_count": out_list.count},
        )
    residual, kind = None, None
    if node["residual"]:
        other = node.inputs[-1]
        residual = self.dense(other)
        in_place = self.only_reader(node, other) and residual.buffer is not x.buffer
        kind = "in_place" if in_place else "separate"
    storage = self.new(
        node,
        active=None if kind else out_list,
        cleared=bool(kind) or not gated,
        at_least=node["clamp"][0],
    )
    if residual is not None and kind == "in_place":
        storage.buffer = residual.buffer
    means = node.output in self.wants_means and not depthwise and not (gated and kind)
    epilogue = Epilogue(gated, kind, node["clamp"], means)
    kernel: Kernel
    if depthwise:
        lanes = window_lanes(shape, self.target)
        kernel, scratch = Depthwise(shape, lanes, epilogue), scratch_bytes(shape, lanes)
        sums_lanes = lanes
    else:
        gated_in = x.active is not None
        tiling = choose_tiling(shape, self.target, gated_in=gated_in, gated_out=gated)
        inactive = None
        if gated and kind:
            assert residual is not None
            unchanged = _leaves_alone(node["clamp"], residual.at_least)
            inactive = None if kind == "in_place" and unchanged else "clamp"
        kernel = ConvKernel(shape, tiling, epilogue, gated_in, inactive, self.target.weight_lanes)
        scratch, sums_lanes = tiling.scratch_bytes(shape), tiling.lanes
    arguments: dict[str, Buffer | Constant] = {
        "x": x.buffer,
        "weight": self.constant(node, "weight", node["weight"]),
        "bias": self.constant(node, "bias", node["bias"]),
        "y": storage.buffer,
    }
    if gated:
        assert out_list is not None
        arguments |= {
            "gate": gate,
            "shift": self.constant(node, "shift", node["shift"]),
            "out_list": out_list.order,
            "out_count": out_list.count,
        }
    if residual is not None and kind == "separate":
        arguments["residual"] = residual.buffer
    if scratch:
        arguments["scratch"] = Buffer(f"{node.output.name}.scratch", scratch)
    if means:
        size = shape.out_channels * sums_lanes
        sums = self.buffer(f"{node.output.name}.sums", size)
        arguments["sums"] = sums
        storage.sums = sums, sums_lanes
    in_list = None if depthwise else x.active
    arguments |= _listed(in_list)
    inputs = 1 if depthwise else shape.in_channels
    # A pair of channels in different groups does not meet.
    macs = shape.macs_per_pair if depthwise or shape.groups == 1 else None
    if macs is None:
        macs, inputs, in_list = shape.macs_per_pair * shape.group_in, 1, None
    if node.attributes.get("elementwise"):
        macs = 0
    self.add(
        node.path or node.output.name,
        self.label(node),
        kernel,
        arguments,
        (macs, inputs, shape.out_channels),
        (in_list, out_list),
    )
    if residual is not None:
        parts = [(out_list, shape.out_channels), (residual.active, shape.out_channels)]
        storage.active = self.merge(node, parts, (0, 0))


def _pool(self: Lowering, node: Node) -> None:
    shape = _shape(node)
    x = self.of(node.inputs[0])
    lanes = window_lanes(shape, self.target)
    at_least = node["clamp"][0] if node["clamp"][0] is not None else x.at_least
    storage = self.new(node, active=x.active, cleared=x.active is None, at_least=at_least)
    kind = node.kind.removesuffix("_pool2d")
    kernel = Pool(shape, kind, lanes, x.active is not None, node["clamp"])
    scratch = Buffer(f"{node.output.name}.scratch", scratch_bytes(shape, lanes))
    arguments = {"x": x.buffer, "y": storage.buffer, "scratch": scratch, **_listed(x.active)}
    self.add(node.path or node.output.name, self.label(node), kernel, arguments)


def _channel_mean(self: Lowering, node: Node) -> None:
    value = node.inputs[0]
    x = self.of(value)
    # A classifier skips what is known to be zero; a gate's own matrix is too small to.
    active = None if node in self.gate_nodes else x.active
    storage = self.new(node, at_least=x.at_least, active=active)
    absolute = node["absolute"] and not (x.at_least is not None and x.at_least >= 0)
    source, lanes = x.buffer, min(self.lanes, _floor_power(value.pixels))
    from_sums = x.sums is not None and not absolute
    if x.sums is not None and from_sums:
        source, lanes = x.sums
    gated = x.active is not None
    kernel = ChannelMean(value.channels, value.pixels, lanes, gated, from_sums, absolute)
    arguments = {"x": source, "y": storage.buffer, **_listed(x.active)}
    self.add(node.path or node.output.name, self.label(node), kernel, arguments)


def _linear(self: Lowering, node: Node) -> None:
    x = self.of(node.inputs[0])
    outputs, inputs = node["weight"].shape
    storage = self.new(node, at_least=node["clamp"][0])
    gated = x.active is not None
    kernel = Linear(
        inputs, outputs, _linear_lanes(self.target, outputs), gated, x.run, node["clamp"]
    )
    bias = np.zeros(kernel.blocks * kernel.block, np.float32)
    bias[:outputs] = node["bias"]
    arguments = {
        "x": x.buffer,
        "weight": self.constant(node, "weight", kernel.pack(node["weight"])),
        "bias": self.constant(node, "bias", bias),
        "y": storage.buffer,
        **_listed(x.active),
    }
    macs = (x.run * outputs, inputs // x.run, 1)
    path = node.path or node.output.name
    self.add(path, self.label(node), kernel, arguments, macs, (x.active, None))


def _linear_lanes(target: Target, outputs: int) -> int:
    widths = sorted({*target.vector_fma_cycles, 4})
    return next((n for n in widths if n >= outputs), widths[-1])


def _clamp(self: Lowering, node: Node) -> None:
    _combine(self, node, (node["low"], node["high"]))


def _add(self: Lowering, node: Node) -> None:
    _combine(self, node, node["clamp"])


def _combine(self: Lowering, node: Node, clamp: tuple[float | None, float | None]) -> None:
    value = node.output
    if len(node.inputs) == 1 and keeps_zero(clamp):
        sources = [self.of(v) for v in node.inputs]
        active = sources[0].active
    else:
        sources = [self.dense(v) for v in node.inputs]
        active = None
    storage = self.new(node, at_least=clamp[0], active=active, cleared=active is None)
    storage.run = sources[0].run
    names = ("a", "b")
    arguments: dict[str, Buffer | Constant] = {
        **{name: s.buffer for name, s in zip(names, sources, strict=False)},
        "y": storage.buffer,
        **_listed(active),
    }
    channels = active.channels if active else value.channels
    kernel = Combine(
        channels, value.size // channels, self.lanes, len(sources), active is not None, clamp
    )
    path = node.path or node.output.name
    self.add(path, self.label(node), kernel, arguments)
    if len(sources) == 2:
        listed = all(s.active is not None and s.run == storage.run for s in sources)
        parts = [(s.active if listed else None, value.channels // storage.run) for s in sources]
        storage.active = self.merge(node, parts, (0, 0))


def _concat(self: Lowering, node: Node) -> None:
    # Flattened channels stay whole if all operands agree on how many numbers each has.
    runs = {self.of(v).run for v in node.inputs if self.of(v).active is not None}
    run = runs.pop() if len(runs) == 1 else 1
    listed = not runs and all(v.channels % run == 0 for v in node.inputs)
    run = run if listed else 1
    sizes = [v.channels // run for v in node.inputs]
    offsets = tuple(int(n) for n in np.cumsum([0, *sizes[:-1]]))
    storage = self.new(node, run=run)
    for value, size, offset in zip(node.inputs, sizes, offsets, strict=True):
        x = self.of(value) if listed else replace(self.dense(value), active=None)
        kernel = CopyPlanes(size, value.size // size, self.lanes, offset, x.active is not None)
        arguments = {"x": x.buffer, "y": storage.buffer, **_listed(x.active)}
        self.add(node.path or node.output.name, self.label(node), kernel, arguments)
    bounds = [self.of(v).at_least for v in node.inputs]
    storage.at_least = None if None in bounds else min(b for b in bounds if b is not None)
    lists = [self.of(v).active if listed else None for v in node.inputs]
    storage.active = self.merge(node, list(zip(lists, sizes, strict=True)), offsets)
    storage.cleared = storage.active is None


def _reshape(self: Lowering, node: Node) -> None:
    value, output = node.inputs[0], node.output
    x = self.of(value)
    storage = replace(x, sums=None)
    if x.active is not None:
        flat = len(output.shape) == 2 and output.shape[0] == 1
        same = len(output.shape) == 4 and output.channels == x.active.channels
        if flat:
            storage.run = value.size // x.active.channels
        elif same:
            storage.run = 1
        else:
            storage = replace(self.dense(value), active=None)
    self.storage[output] = storage


def _keep_top_k(self: Lowering, node: Node) -> None:
    x = self.dense(node.inputs[0])
    storage = self.new(node)
    channels = node.output.size
    lanes = min(self.lanes, max(4, _floor_power(channels)))
    kernel = KeepTopK(channels, node["k"], lanes)
    arguments: dict[str, Buffer | Constant] = {"x": x.buffer, "y": storage.buffer}
    self.add(node.path or node.output.name, self.label(node), kernel, arguments)


def _relax(self: Lowering, node: Node) -> None:
    sources = [self.dense(v).buffer for v in node.inputs]
    kernel = legalize(node["call"], [v.shape for v in node.inputs], node.path)
    storage = self.new(node)
    arguments: dict[str, Buffer | Constant] = {f"x{i}": b for i, b in enumerate(sources)}
    arguments["y"] = storage.buffer
    operator = node["operator"]
    self.add(node.path or node.output.name, self.label(node, operator), kernel, arguments)


def _floor_power(number: int) -> int:
    return 1 << (max(1, number).bit_length() - 1)


_LOWER: dict[str, Callable[[Lowering, Node], None]] = {
    "conv2d": _convolution,
    "gated_conv2d": _convolution,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "channel_mean": _channel_mean,
    "linear": _linear,
    "clamp": _clamp,
    "add": _add,
    "concat": _concat,
    "reshape": _reshape,
    "keep_top_k": _keep_top_k,
    "abs": _relax,
    "relax": _relax,
}
