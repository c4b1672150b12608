"""From the fused graph to steps: one function for each kind of node, and a table of them."""

from __future__ import annotations

from collections.abc import Callable, Collection

from headgate.compile.front.graph import Graph, Node
from headgate.compile.plan.select import gate, plain
from headgate.compile.plan.select.conv import convolution
from headgate.compile.plan.select.pixel import pixel_gated
from headgate.compile.plan.steps import Buffer, Program
from headgate.compile.plan.workspace import Storage, Workspace
from headgate.device.targets import Target


def select_kernels(graph: Graph, target: Target, single: Collection[Node] = ()) -> Program:
    """The steps of the whole network; ``single`` are the nodes that stay float32 in it.

    Raises:
        UnsupportedOperator: a node that TVM cannot lower either.
    """
    work = Workspace(graph, target)
    for value in graph.inputs:
        work.storage[value] = Storage(Buffer(value.name, value.type))
        work.program.inputs.append(work.storage[value].buffer)
    for node in graph.nodes:
        before = len(work.program.steps)
        _SELECT[node.kind](work, node)
        for step in work.program.steps[before:]:
            step.in_float = node in single
        work.remaining.subtract(node.inputs)
    for value in graph.outputs:
        work.program.outputs.append(work.dense(value).buffer)
    return work.program


_SELECT: dict[str, Callable[[Workspace, Node], None]] = {
    "conv2d": convolution,
    "gated_conv2d": convolution,
    "pixel_gated_conv2d": pixel_gated,
    "max_pool2d": plain.pool,
    "avg_pool2d": plain.pool,
    "channel_mean": gate.channel_mean,
    "linear": plain.linear,
    "clamp": plain.clamp,
    "add": plain.add,
    "concat": plain.concat,
    "reshape": plain.reshape,
    "keep_top_k": gate.keep_top_k,
    "matmul": plain.matmul,
    "scan": plain.scan,
    "sort": plain.sort,
    "compute": plain.compute,
    "quantize": plain.quantize,
    "dequantize": plain.quantize,
    "table": plain.table,
}
