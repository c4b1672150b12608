"""From the fused graph to steps: one small function for each kind of node, and a table of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from headgate.compile.front.graph import Graph, Node, keeps_zero
from headgate.compile.kernels.expression import Expression
from headgate.compile.kernels.gating import ChannelMean, KeepTopK
from headgate.compile.kernels.linear import Linear
from headgate.compile.kernels.matmul import Matmul
from headgate.compile.kernels.ordering import Scan, Sort
from headgate.compile.kernels.planes import Combine, CopyPlanes
from headgate.compile.kernels.window import Pool, scratch_bytes, window_lanes
from headgate.compile.plan.convolution import convolution, window_shape
from headgate.compile.plan.pixel_gates import pixel_gated
from headgate.compile.plan.steps import Buffer, Constant, Program, Repeat
from headgate.compile.plan.workspace import (
    FLOAT_BYTES,
    Storage,
    Workspace,
    each_image,
    list_arguments,
)
from headgate.device.targets import Target
from headgate.errors import UnsupportedOperator


def select_kernels(graph: Graph, target: Target) -> Program:
    """The steps of the whole network.

    Raises:
        UnsupportedOperator: a node that TVM cannot lower either.
    """
    work = Workspace(graph, target)
    for value in graph.inputs:
        work.storage[value] = Storage(work.buffer(value.name, value.size))
        work.program.inputs.append(work.storage[value].buffer)
    for node in graph.nodes:
        _SELECT[node.kind](work, node)
        work.remaining.subtract(node.inputs)
    for value in graph.outputs:
        work.program.outputs.append(work.dense(value).buffer)
    return work.program


def _pool(work: Workspace, node: Node) -> None:
    shape = window_shape(node)
    x = work.of(node.inputs[0])
    lanes = window_lanes(shape, work.target)
    at_least = node["clamp"][0] if node["clamp"][0] is not None else x.at_least
    storage = work.new(node, active=x.active, cleared=x.active is None, at_least=at_least)
    kind = node.kind.removesuffix("_pool2d")
    kernel = Pool(shape, kind, lanes, x.active is not None, node["clamp"])
    scratch = Buffer(f"{node.output.name}.scratch", scratch_bytes(shape, lanes))
    arguments = {"x": x.buffer, "y": storage.buffer, "scratch": scratch, **list_arguments(x.active)}
    repeat = each_image({"x": node.inputs[0], "y": node.output})
    work.add(node.name, work.label(node), kernel, arguments, repeat=repeat)


def _channel_mean(work: Workspace, node: Node) -> None:
    value = node.inputs[0]
    x = work.of(value)
    # A classifier skips what is known to be zero; a gate's own matrix is too small to.
    active = None if node in work.gate_nodes else x.active
    storage = work.new(node, at_least=x.at_least, active=active)
    absolute = node["absolute"] and not (x.at_least is not None and x.at_least >= 0)
    source, lanes = x.buffer, min(work.lanes, _floor_power(value.pixels))
    from_sums = x.sums is not None and not absolute
    if x.sums is not None and from_sums:
        source, lanes = x.sums
    gated = x.active is not None
    kernel = ChannelMean(value.channels, value.pixels, lanes, gated, from_sums, absolute)
    arguments = {"x": source, "y": storage.buffer, **list_arguments(x.active)}
    repeat = each_image({"x": value, "y": node.output})
    work.add(node.name, work.label(node), kernel, arguments, repeat=repeat)


def _linear(work: Workspace, node: Node) -> None:
    x = work.of(node.inputs[0])
    outputs, inputs = node["weight"].shape
    storage = work.new(node, at_least=node["clamp"][0])
    gated = x.active is not None
    kernel = Linear(
        inputs, outputs, _linear_lanes(work.target, outputs), gated, x.run, node["clamp"]
    )
    bias = np.zeros(kernel.blocks * kernel.block, np.float32)
    bias[:outputs] = node["bias"]
    arguments = {
        "x": x.buffer,
        "weight": work.constant(node, "weight", kernel.pack(node["weight"])),
        "bias": work.constant(node, "bias", bias),
        "y": storage.buffer,
        **list_arguments(x.active),
    }
    macs = (x.run * outputs, inputs // x.run, 1)
    rows = node.inputs[0].size // inputs
    repeat = Repeat(rows, {"x": inputs * FLOAT_BYTES, "y": outputs * FLOAT_BYTES})
    work.add(node.name, work.label(node), kernel, arguments, macs, (x.active, None), repeat)


def _linear_lanes(target: Target, outputs: int) -> int:
    widths = sorted({*target.vector_fma_cycles, 4})
    return next((n for n in widths if n >= outputs), widths[-1])


def _clamp(work: Workspace, node: Node) -> None:
    _combine(work, node, (node["low"], node["high"]))


def _add(work: Workspace, node: Node) -> None:
    _combine(work, node, node["clamp"])


def _combine(work: Workspace, node: Node, clamp: tuple[float | None, float | None]) -> None:
    value = node.output
    if len(node.inputs) == 1 and keeps_zero(clamp):
        sources = [work.of(v) for v in node.inputs]
        active = sources[0].active
    else:
        sources = [work.dense(v) for v in node.inputs]
        active = None
    storage = work.new(node, at_least=clamp[0], active=active, cleared=active is None)
    storage.run = sources[0].run
    names = ("a", "b")
    arguments: dict[str, Buffer | Constant] = {
        **{name: s.buffer for name, s in zip(names, sources, strict=False)},
        "y": storage.buffer,
        **list_arguments(active),
    }
    channels = active.channels if active else value.channels
    kernel = Combine(
        channels, value.size // channels, work.lanes, len(sources), active is not None, clamp
    )
    path = node.name
    work.add(path, work.label(node), kernel, arguments)
    if len(sources) == 2:
        listed = all(s.active is not None and s.run == storage.run for s in sources)
        parts = [(s.active if listed else None, value.channels // storage.run) for s in sources]
        storage.active = work.merge(node, parts, (0, 0))


def _concat(work: Workspace, node: Node) -> None:
    before = int(np.prod(node.output.shape[: node["axis"]], dtype=np.int64))
    if node["axis"] == 1 and before == 1:
        _concat_channels(work, node)
        return
    storage = work.new(node)
    whole, done = node.output.bytes // before, 0
    for value in node.inputs:
        size = value.size // before
        repeat = Repeat(before, {"x": size * FLOAT_BYTES, "y": whole}, {"y": done})
        kernel = CopyPlanes(1, size, work.lanes, 0)
        x = work.dense(value).buffer
        work.add(node.name, work.label(node), kernel, {"x": x, "y": storage.buffer}, repeat=repeat)
        done += size * FLOAT_BYTES


def _concat_channels(work: Workspace, node: Node) -> None:
    # Flattened channels stay whole if all operands agree on how many numbers each has.
    runs = {work.of(v).run for v in node.inputs if work.of(v).active is not None}
    run = runs.pop() if len(runs) == 1 else 1
    listed = not runs and all(v.channels % run == 0 for v in node.inputs)
    run = run if listed else 1
    sizes = [v.channels // run for v in node.inputs]
    offsets = tuple(int(n) for n in np.cumsum([0, *sizes[:-1]]))
    storage = work.new(node, run=run)
    for value, size, offset in zip(node.inputs, sizes, offsets, strict=True):
        x = work.of(value) if listed else replace(work.dense(value), active=None)
        kernel = CopyPlanes(size, value.size // size, work.lanes, offset, x.active is not None)
        arguments = {"x": x.buffer, "y": storage.buffer, **list_arguments(x.active)}
        work.add(node.name, work.label(node), kernel, arguments)
    bounds = [work.of(v).at_least for v in node.inputs]
    storage.at_least = None if None in bounds else min(b for b in bounds if b is not None)
    lists = [work.of(v).active if listed else None for v in node.inputs]
    storage.active = work.merge(node, list(zip(lists, sizes, strict=True)), offsets)
    storage.cleared = storage.active is None


def _reshape(work: Workspace, node: Node) -> None:
    value, output = node.inputs[0], node.output
    x = work.of(value)
    storage = replace(x, sums=None)
    if x.active is not None:
        flat = len(output.shape) == 2 and output.shape[0] == 1
        same = output.shape[:2] == (1, x.active.channels)
        if flat:
            storage.run = value.size // x.active.channels
        elif same:
            storage.run = 1
        else:
            storage = replace(work.dense(value), active=None, sums=None, run=1)
    work.storage[output] = storage


def _keep_top_k(work: Workspace, node: Node) -> None:
    x = work.dense(node.inputs[0])
    storage = work.new(node)
    channels = node.output.size
    lanes = min(work.lanes, max(4, _floor_power(channels)))
    kernel = KeepTopK(channels, node["k"], lanes)
    arguments: dict[str, Buffer | Constant] = {"x": x.buffer, "y": storage.buffer}
    work.add(node.name, work.label(node), kernel, arguments)


def _matmul(work: Workspace, node: Node) -> None:
    a, b = node.inputs
    (*_, rows, inner), columns = a.shape, b.shape[-1]
    products = int(np.prod(a.shape[:-2], dtype=np.int64))
    kernel = Matmul(rows, inner, columns, work.lanes)
    arguments: dict[str, Buffer | Constant] = {
        "a": work.dense(a).buffer,
        "b": work.dense(b).buffer,
        "y": work.new(node).buffer,
    }
    sizes = {"a": rows * inner, "b": inner * columns, "y": rows * columns}
    repeat = Repeat(products, {name: size * FLOAT_BYTES for name, size in sizes.items()})
    macs = (rows * inner * columns, 1, 1)
    work.add(node.name, work.label(node), kernel, arguments, macs, repeat=repeat)


def _scan(work: Workspace, node: Node) -> None:
    shape, axis = node.output.shape, node["axis"]
    outer, inner = (int(np.prod(s, dtype=np.int64)) for s in (shape[:axis], shape[axis + 1 :]))
    kernel = Scan(outer, shape[axis], inner, node["function"], node.output.dtype)
    x, y = work.dense(node.inputs[0]).buffer, work.new(node).buffer
    work.add(node.name, work.label(node), kernel, {"x": x, "y": y})


def _sort(work: Workspace, node: Node) -> None:
    x = node.inputs[0]
    rows = x.size // x.shape[-1]
    kernel = Sort(rows, x.shape[-1], node["descending"], x.dtype)
    arguments: dict[str, Buffer | Constant] = {
        "x": work.dense(x).buffer,
        "y": work.new(node).buffer,
        "scratch": Buffer(f"{node.output.name}.scratch", x.shape[-1] * 8),
    }
    work.add(node.name, work.label(node), kernel, arguments)


def _compute(work: Workspace, node: Node) -> None:
    inputs = [(v.shape, v.dtype) for v in node.inputs]
    try:
        kernel = Expression.of(node["element"], inputs, (node.output.shape, node.output.dtype))
    except Exception as error:  # TVM raises what it likes
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnsupportedOperator(
            f"Operator {node['operator']} in module {node.path!r} cannot be lowered by TVM: "
            f"{reason}; rewrite the module with other operators, or leave it out."
        ) from error
    arguments: dict[str, Buffer | Constant] = {
        f"x{i}": work.operand(v, node) for i, v in enumerate(node.inputs)
    }
    storage = work.new(node)
    arguments["y"] = storage.buffer
    for value in (node.inputs[i] for i in node["zeros"]):
        if value.shape == node.output.shape and value.data is None and work.of(value).run == 1:
            # All planes are computed, and those of closed channels stay zero.
            storage.active = storage.active or work.of(value).active
    macs = (node.attributes.get("macs", 0), 1, 1)
    work.add(node.name, work.label(node, node["operator"]), kernel, arguments, macs)


def _floor_power(number: int) -> int:
    return 1 << (max(1, number).bit_length() - 1)


_SELECT: dict[str, Callable[[Workspace, Node], None]] = {
    "conv2d": convolution,
    "gated_conv2d": convolution,
    "pixel_gated_conv2d": pixel_gated,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "channel_mean": _channel_mean,
    "linear": _linear,
    "clamp": _clamp,
    "add": _add,
    "concat": _concat,
    "reshape": _reshape,
    "keep_top_k": _keep_top_k,
    "matmul": _matmul,
    "scan": _scan,
    "sort": _sort,
    "compute": _compute,
}
