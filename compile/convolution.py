"""Which kernel a convolution gets, dense or gated, and what is fused behind it."""

from __future__ import annotations

from headgate.compile.graph import Node
from headgate.compile.schedules.conv2d import ConvKernel
from headgate.compile.schedules.gating import ListActive
from headgate.compile.schedules.microkernel import Epilogue
from headgate.compile.schedules.tiling import ConvShape, choose_tiling
from headgate.compile.schedules.window import Depthwise, scratch_bytes, window_lanes
from headgate.compile.steps import Buffer, Constant, Kernel
from headgate.compile.workspace import Workspace, list_arguments


def convolution(work: Workspace, node: Node) -> None:
    shape, gated = window_shape(node), node.kind == "gated_conv2d"
    depthwise = shape.group_in == 1 and shape.groups > 1
    x = work.dense(node.inputs[0]) if depthwise else work.of(node.inputs[0])
    out_list = None
    if gated:
        gate = work.dense(node.inputs[1]).buffer
        out_list = work.new_list(node.name, shape.out_channels)
        work.add(
            out_list.name,
            "gate",
            ListActive(shape.out_channels),
            {"gate": gate, "out_list": out_list.order, "out_count": out_list.count},
        )
    residual, kind = None, None
    if node["residual"]:
        other = node.inputs[-1]
        residual = work.dense(other)
        in_place = work.only_reader(node, other) and residual.buffer is not x.buffer
        kind = "in_place" if in_place else "separate"
    storage = work.new(
        node,
        active=None if kind else out_list,
        cleared=bool(kind) or not gated,
        at_least=node["clamp"][0],
    )
    if residual is not None and kind == "in_place":
        storage.buffer = residual.buffer
    means = node.output in work.wants_means and not depthwise and not (gated and kind)
    epilogue = Epilogue(gated, kind, node["clamp"], means)
    kernel: Kernel
    if depthwise:
        lanes = window_lanes(shape, work.target)
        kernel, scratch = Depthwise(shape, lanes, epilogue), scratch_bytes(shape, lanes)
        sums_lanes = lanes
    else:
        gated_in = x.active is not None
        tiling = choose_tiling(shape, work.target, gated_in=gated_in, gated_out=gated)
        inactive = None
        if gated and kind:
            assert residual is not None
            unchanged = _leaves_alone(node["clamp"], residual.at_least)
            inactive = None if kind == "in_place" and unchanged else "clamp"
        kernel = ConvKernel(shape, tiling, epilogue, gated_in, inactive, work.target.weight_lanes)
        scratch, sums_lanes = tiling.scratch_bytes(shape), tiling.lanes
    arguments: dict[str, Buffer | Constant] = {
        "x": x.buffer,
        "weight": work.constant(node, "weight", node["weight"]),
        "bias": work.constant(node, "bias", node["bias"]),
        "y": storage.buffer,
    }
    if gated:
        assert out_list is not None
        arguments |= {
            "gate": gate,
            "shift": work.constant(node, "shift", node["shift"]),
            "out_list": out_list.order,
            "out_count": out_list.count,
        }
    if residual is not None and kind == "separate":
        arguments["residual"] = residual.buffer
    if scratch:
        arguments["scratch"] = Buffer(f"{node.output.name}.scratch", scratch)
    if means:
        size = shape.out_channels * sums_lanes
        sums = work.buffer(f"{node.output.name}.sums", size)
        arguments["sums"] = sums
        storage.sums = sums, sums_lanes
    in_list = None if depthwise else x.active
    arguments |= list_arguments(in_list)
    inputs = 1 if depthwise else shape.in_channels
    # A pair of channels in different groups does not meet.
    macs = shape.macs_per_pair if depthwise or shape.groups == 1 else None
    if macs is None:
        macs, inputs, in_list = shape.macs_per_pair * shape.group_in, 1, None
    if node.attributes.get("elementwise"):
        macs = 0
    work.add(
        node.name,
        work.label(node),
        kernel,
        arguments,
        (macs, inputs, shape.out_channels),
        (in_list, out_list),
    )
    if residual is not None:
        parts = [(out_list, shape.out_channels), (residual.active, shape.out_channels)]
        storage.active = work.merge(node, parts, (0, 0))


def window_shape(node: Node) -> ConvShape:
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
