"""Which kernel a convolution gets, dense or gated, and what is fused behind it."""

from __future__ import annotations

import numpy as np

from headgate.compile.front.graph import Node
from headgate.compile.kernels.conv2d import ConvKernel
from headgate.compile.kernels.gating import ListActive
from headgate.compile.kernels.microkernel import Epilogue
from headgate.compile.kernels.tiling import ConvShape, choose_tiling
from headgate.compile.kernels.window import Depthwise, scratch_bytes, window_lanes
from headgate.compile.plan.steps import ActiveList, Buffer, Constant, Kernel
from headgate.compile.plan.workspace import Storage, Workspace, each_image, list_arguments

Arguments = dict[str, Buffer | Constant]


def convolution(work: Workspace, node: Node) -> None:
    """Adds the steps of a ``conv2d`` or ``gated_conv2d`` node: lists, kernel, the sum's list."""
    shape, gated = window_shape(node), node.kind == "gated_conv2d"
    depthwise = shape.group_in == 1 and shape.groups > 1
    out_list = _list_active(work, node) if gated else None
    x = work.of(node.inputs[0])
    if depthwise and not (node.attributes.get("follows") and x.active is out_list):
        x = work.dense(node.inputs[0])
    residual, kind = fused_residual(work, node, x)
    storage = work.new(
        node,
        active=None if residual else out_list,
        cleared=residual is not None or not gated,
        at_least=node["clamp"][0],
    )
    if residual is not None and kind == "in_place":
        storage.buffer = residual.buffer
    placed = "placed" in node.attributes
    some = placed or (gated and residual is not None)
    means = node.output in work.wants_means and not depthwise and not some
    epilogue = Epilogue(gated, kind, node["clamp"], means)
    arguments: Arguments = {
        "x": x.buffer,
        "weight": work.constant(node, "weight", node["weight"]),
        "bias": work.constant(node, "bias", _bias(node)),
        "y": storage.buffer,
    }
    if placed:
        arguments["constant"] = work.constant(node, "constant", node["constant"])
        arguments["out_list"] = work.constant(node, "placed", _placed_first(node), np.int32)
    if out_list is not None:
        arguments |= {
            "gate": _factors(work, node),
            "shift": work.constant(node, "shift", node["shift"]),
            "out_list": out_list.order,
            "out_count": out_list.count,
        }
    if residual is not None and kind == "separate":
        arguments["residual"] = residual.buffer
    kernel: Kernel
    if depthwise:
        lanes = window_lanes(shape, work.target)
        kernel, scratch = Depthwise(shape, lanes, epilogue), scratch_bytes(shape, lanes)
    else:
        gated_in = x.active is not None
        tiling = choose_tiling(shape, work.target, gated_in=gated_in, gated_out=gated)
        inactive = placed or (gated and _clamp_inactive(node, residual, kind))
        kernel = ConvKernel(
            shape,
            tiling,
            epilogue,
            gated_in,
            inactive,
            work.target.weight_lanes,
            node.output.channels if placed else 0,
        )
        scratch = tiling.scratch_bytes(shape)
        arguments |= list_arguments(x.active)
        if means:
            sums = work.buffer(f"{node.name}.sums", shape.out_channels * tiling.lanes)
            arguments["sums"] = sums
            storage.sums = sums, tiling.lanes
    if scratch:
        arguments["scratch"] = Buffer(f"{node.name}.scratch", scratch)
    macs, in_list = _macs(node, shape), x.active if shape.groups == 1 else None
    images = {"x": node.inputs[0], "y": node.output, "residual": node.output}
    repeat = each_image(images)
    work.add(node.name, work.label(node), kernel, arguments, macs, (in_list, out_list), repeat)
    if residual is not None:
        parts = [(out_list, shape.out_channels), (residual.active, shape.out_channels)]
        storage.active = work.merge(node, parts, (0, 0))


def fused_residual(work: Workspace, node: Node, x: Storage) -> tuple[Storage | None, str | None]:
    """The tensor that a convolution of ``x`` adds, and how its epilogue finds it; or neither."""
    if not node["residual"]:
        return None, None
    residual = work.dense(node.inputs[-1])
    in_place = work.only_reader(node.inputs[-1]) and residual.buffer is not x.buffer
    return residual, "in_place" if in_place else "separate"


def _bias(node: Node) -> np.ndarray:
    """One number for each channel of the result."""
    if "placed" not in node.attributes:
        return node["bias"]
    bias = np.zeros(node.output.channels, np.float32)
    bias[list(node["placed"])] = node["bias"]
    return bias


def _placed_first(node: Node) -> np.ndarray:
    """All channels of the result, those that are computed first."""
    others = sorted(set(range(node.output.channels)) - set(node["placed"]))
    return np.array([*node["placed"], *others])


def _factors(work: Workspace, node: Node) -> Buffer | Constant:
    """What open channels are multiplied with: a convolution that only follows takes no part."""
    if node.attributes.get("follows"):
        return work.constant(node, "ones", np.ones(node.output.channels))
    return work.of(node.inputs[1]).buffer


def _list_active(work: Workspace, node: Node) -> ActiveList:
    """The list of channels that a gate leaves open, made where it is first asked for."""
    known = work.lists.get(node.inputs[1])
    if known is not None and known.channels == node.output.channels:
        return known
    gate = work.dense(node.inputs[1]).buffer
    channels = node.output.channels
    active = work.new_list(node.name, channels)
    arguments: Arguments = {"gate": gate, "out_list": active.order, "out_count": active.count}
    work.add(active.name, "gate", ListActive(channels), arguments)
    work.lists[node.inputs[1]] = active
    return active


def _clamp_inactive(node: Node, residual: Storage | None, kind: str | None) -> bool:
    """Whether a gated sum owes the channels it does not visit the activation of the residual."""
    if residual is None:
        return False
    low, high = node["clamp"]
    bounded = residual.at_least is not None and low is not None and residual.at_least >= low
    unchanged = high is None and (low is None or bounded)
    return not (kind == "in_place" and unchanged)


def _macs(node: Node, shape: ConvShape) -> tuple[int, int, int]:
    """MACs for a pair of channels, inputs, outputs; only channels of one group meet."""
    only_scales = node.kind == "gated_conv2d" and not node.attributes.get("follows")
    if only_scales and shape.groups == shape.out_channels > 1 and node["weight"][0].size == 1:
        return 0, 1, shape.out_channels
    if shape.groups > 1:
        return shape.macs_per_pair * shape.group_in, 1, shape.out_channels
    return shape.macs_per_pair, shape.in_channels, shape.out_channels


def window_shape(node: Node) -> ConvShape:
    """The shape of a convolution or pooling node."""
    x = node.inputs[0]
    kernel = node["weight"].shape[2:] if "weight" in node.attributes else node["kernel"]
    # What a folded batch norm scales may have fewer or more dimensions than an image.
    height, width = x.shape[2:] if len(x.shape) == 4 else (1, x.pixels)
    return ConvShape(
        x.channels,
        node["weight"].shape[0] if "weight" in node.attributes else node.output.channels,
        height,
        width,
        tuple(kernel),
        node["stride"],
        node["padding"],
        node["dilation"],
        node.attributes.get("groups", x.channels),
    )
