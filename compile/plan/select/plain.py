"""Everything but convolutions and gates: one small function for each kind of node."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from headgate.compile.front.graph import Node, keeps_zero
from headgate.compile.kernels.convolution import Clamp
from headgate.compile.kernels.expression import Expression
from headgate.compile.kernels.ordering import Scan, Sort
from headgate.compile.plan.select.conv import window_shape
from headgate.compile.plan.steps import Repeat
from headgate.compile.plan.workspace import (
    Arguments,
    Workspace,
    each,
    each_image,
    list_arguments,
)
from headgate.errors import UnsupportedOperator, first_line


def pool(work: Workspace, node: Node) -> None:
    shape = window_shape(node)
    x = work.of(node.inputs[0])
    at_least = node["clamp"][0] if node["clamp"][0] is not None else x.at_least
    storage = work.new(node, active=x.active, cleared=x.active is None, at_least=at_least)
    gated, kind = x.active is not None, node.kind.removesuffix("_pool2d")
    make = work.kernel("pool2d", node.inputs[0].dtype, node.output.dtype, gated=gated)
    kernel = make(shape=shape, kind=kind, gated=gated, clamp=node["clamp"])
    arguments = {
        "x": x.buffer,
        "y": storage.buffer,
        **work.constants(node, kernel),
        **list_arguments(x.active),
    }
    repeat = each_image(x=node.inputs[0], y=node.output)
    work.add(node.name, work.label(node), kernel, arguments, repeat=repeat)


def linear(work: Workspace, node: Node) -> None:
    x, dtypes = work.of(node.inputs[0]), (node.inputs[0].dtype, node.output.dtype)
    if x.active is not None and x.run % work.isa(*dtypes).grain:
        x = replace(work.dense(node.inputs[0]), active=None, run=1)
    outputs, inputs = node["weight"].shape
    storage = work.new(node, at_least=node["clamp"][0])
    gated = x.active is not None
    make = work.kernel("linear", *dtypes, gated=gated)
    asked = {"inputs": inputs, "outputs": outputs, "run": x.run, "clamp": node["clamp"]}
    kernel = make(gated=gated, **asked)
    arguments = {
        "x": x.buffer,
        **work.constants(node, kernel),
        "y": storage.buffer,
        **list_arguments(x.active),
    }
    macs = (x.run * outputs, inputs // x.run, 1)
    repeat = each(node.inputs[0].size // inputs, x=node.inputs[0], y=node.output)
    work.add(node.name, work.label(node), kernel, arguments, macs, (x.active, None), repeat)


def clamp(work: Workspace, node: Node) -> None:
    _combine(work, node, (node["low"], node["high"]))


def add(work: Workspace, node: Node) -> None:
    _combine(work, node, node["clamp"])


def _combine(work: Workspace, node: Node, clamp: Clamp) -> None:
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
    arguments: Arguments = {
        **{name: s.buffer for name, s in zip(names, sources, strict=False)},
        "y": storage.buffer,
        **list_arguments(active),
    }
    channels = active.channels if active else value.channels
    gated = active is not None
    dtypes = (*(v.dtype for v in node.inputs), value.dtype)
    make = work.kernel("combine", *dtypes, gated=gated)
    kernel = make(
        channels=channels,
        pixels=value.size // channels,
        operands=len(sources),
        gated=gated,
        clamp=clamp,
    )
    arguments |= work.constants(node, kernel)
    work.add(node.name, work.label(node), kernel, arguments)
    if len(sources) == 2:
        listed = all(s.active is not None and s.run == storage.run for s in sources)
        parts = [(s.active if listed else None, value.channels // storage.run) for s in sources]
        storage.active = work.merge(node, parts, (0, 0))


def concat(work: Workspace, node: Node) -> None:
    before = int(np.prod(node.output.shape[: node["axis"]], dtype=np.int64))
    if node["axis"] == 1 and before == 1:
        _concat_channels(work, node)
        return
    storage = work.new(node)
    whole, done = node.output.bytes // before, 0
    for value in node.inputs:
        size = value.bytes // before
        repeat = Repeat(before, {"x": size, "y": whole}, {"y": done})
        kernel = work.kernel("copy_planes", value.dtype, value.dtype)(
            channels=1, pixels=value.size // before
        )
        x = work.dense(value).buffer
        work.add(node.name, work.label(node), kernel, {"x": x, "y": storage.buffer}, repeat=repeat)
        done += size


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
        gated = x.active is not None
        make = work.kernel("copy_planes", value.dtype, value.dtype, gated=gated)
        kernel = make(channels=size, pixels=value.size // size, offset=offset, gated=gated)
        arguments = {"x": x.buffer, "y": storage.buffer, **list_arguments(x.active)}
        work.add(node.name, work.label(node), kernel, arguments)
    bounds = [work.of(v).at_least for v in node.inputs]
    storage.at_least = None if None in bounds else min(b for b in bounds if b is not None)
    lists = [work.of(v).active if listed else None for v in node.inputs]
    storage.active = work.merge(node, list(zip(lists, sizes, strict=True)), offsets)
    storage.cleared = storage.active is None


def reshape(work: Workspace, node: Node) -> None:
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


def quantize(work: Workspace, node: Node) -> None:
    x = work.dense(node.inputs[0]).buffer
    dtypes = (node.inputs[0].dtype, node.output.dtype)
    bounds = {"clamp": node["clamp"]} if node.kind == "quantize" else {}
    kernel = work.kernel(node.kind, *dtypes)(size=node.output.size, **bounds)
    arguments = {"x": x, "y": work.new(node).buffer, **work.constants(node, kernel)}
    work.add(node.name, work.label(node), kernel, arguments)


def table(work: Workspace, node: Node) -> None:
    source, value, rows = node.inputs[0], node.output, node["table"]
    by_channel = len(rows) > 1
    x = work.of(source)
    if rows[:, 0].any() or (by_channel and x.run > 1):
        x = replace(work.dense(source), active=None, run=1)
    active = x.active
    storage = work.new(node, active=active, cleared=active is None, run=x.run)
    channels = active.channels if active else value.channels
    whole = value.shape[0] if by_channel else 1
    make = work.kernel("table", source.dtype, value.dtype, gated=active is not None)
    kernel = make(
        channels=channels,
        pixels=value.size // (whole * channels),
        by_channel=by_channel,
        gated=active is not None,
    )
    arguments: Arguments = {
        "x": x.buffer,
        "y": storage.buffer,
        **work.constants(node, kernel),
        **list_arguments(active),
    }
    repeat = each(whole, x=source, y=value)
    work.add(node.name, work.label(node), kernel, arguments, repeat=repeat)


def matmul(work: Workspace, node: Node) -> None:
    a, b = node.inputs
    (*_, rows, inner), columns = a.shape, b.shape[-1]
    kernel = work.kernel("matmul", node.output.dtype)(rows=rows, inner=inner, columns=columns)
    arguments: Arguments = {
        "a": work.dense(a).buffer,
        "b": work.dense(b).buffer,
        "y": work.new(node).buffer,
    }
    repeat = each(a.size // (rows * inner), a=a, b=b, y=node.output)
    macs = (rows * inner * columns, 1, 1)
    work.add(node.name, work.label(node), kernel, arguments, macs, repeat=repeat)


def scan(work: Workspace, node: Node) -> None:
    shape, axis = node.output.shape, node["axis"]
    outer, inner = (int(np.prod(s, dtype=np.int64)) for s in (shape[:axis], shape[axis + 1 :]))
    kernel = Scan(outer, shape[axis], inner, node["function"], node.output.dtype)
    x, y = work.dense(node.inputs[0]).buffer, work.new(node).buffer
    work.add(node.name, work.label(node), kernel, {"x": x, "y": y})


def sort(work: Workspace, node: Node) -> None:
    x = node.inputs[0]
    rows = x.size // x.shape[-1]
    kernel = Sort(rows, x.shape[-1], node["descending"], x.dtype)
    arguments: Arguments = {"x": work.dense(x).buffer, "y": work.new(node).buffer}
    work.add(node.name, work.label(node), kernel, arguments)


def compute(work: Workspace, node: Node) -> None:
    try:
        kernel = Expression.from_element(
            node["element"], [v.type for v in node.inputs], node.output.type
        )
    except Exception as error:  # TVM raises what it likes
        raise UnsupportedOperator(
            f"Operator {node['operator']} in module {node.path!r} cannot be lowered by TVM: "
            f"{first_line(error)}; rewrite the module with other operators, or leave it out."
        ) from error
    arguments: Arguments = {f"x{i}": work.operand(v, node) for i, v in enumerate(node.inputs)}
    storage = work.new(node)
    arguments["y"] = storage.buffer
    for value in (node.inputs[i] for i in node["zeros"]):
        if value.shape == node.output.shape and value.data is None and work.of(value).run == 1:
            # All planes are computed, and those of inactive channels stay zero.
            storage.active = storage.active or work.of(value).active
    macs = (node.attributes.get("macs", 0), 1, 1)
    work.add(node.name, work.label(node, node["operator"]), kernel, arguments, macs)
