"""Convolutions, dense or gated: which kernel, what is fused behind it, where it all lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from headgate.compile.front.graph import Node
from headgate.compile.kernels.convolution import ConvRequest, ConvShape, Epilogue
from headgate.compile.plan.select.gate import factors, known_list, list_active
from headgate.compile.plan.steps import ActiveList, Buffer
from headgate.compile.plan.workspace import (
    Arguments,
    Storage,
    Workspace,
    each_image,
    list_arguments,
)
from headgate.device.tensor_type import INT32


@dataclass(frozen=True)
class Convolution:
    """What has been decided of one convolution.

    ``gated``: it has a gate. ``listed``: its kernel is given its input's planes as they are, active
    or not; else the inactive ones are cleared first.
    """

    kernel: Any
    shape: ConvShape
    epilogue: Epilogue
    gated: bool
    listed: bool
    macs: tuple[int, int, int]


@dataclass(frozen=True)
class Places:
    """Where a convolution reads and writes, and the lists on either side of it."""

    arguments: Arguments
    storage: Storage
    in_list: ActiveList | None
    out_list: ActiveList | None
    residual: Storage | None


def convolution(work: Workspace, node: Node) -> None:
    """Adds the steps of a ``conv2d`` or ``gated_conv2d`` node: lists, kernel, the sum's list."""
    decided = decide(work, node)
    emit(work, node, decided, allocate(work, node, decided))


def decide(work: Workspace, node: Node) -> Convolution:
    """Which kernel a convolution gets; nothing is changed."""
    shape, gated = window_shape(node), node.kind == "gated_conv2d"
    placed = "placed" in node.attributes
    depthwise = shape.group_in == 1 and shape.groups > 1
    x = work.storage.get(node.inputs[0])
    active = x.active if x is not None else None
    follows = bool(node.attributes.get("follows")) and active is known_list(work, node)
    listed = not depthwise or follows
    residual = fused_residual(work, node)
    some = placed or (gated and residual is not None)
    fuses = work.isa(node.inputs[0].dtype, node.output.dtype).fuses_means
    means = fuses and node.output in work.averaged and not depthwise and not some
    epilogue = Epilogue(gated, residual, node["clamp"], means)
    request = ConvRequest(
        shape,
        epilogue,
        gated_in=active is not None and listed,
        clamp_inactive=placed or (gated and _clamp_inactive(work, node, residual)),
        placed=node.output.channels if placed else 0,
    )
    operands = [node.inputs[0], *([node.inputs[-1]] if residual else []), node.output]
    make = work.kernel(
        "depthwise_conv2d" if depthwise else "conv2d",
        *(value.dtype for value in operands),
        gated=gated or request.gated_in,
    )
    return Convolution(make(request=request), shape, epilogue, gated, listed, _macs(node, shape))


def allocate(work: Workspace, node: Node, decided: Convolution) -> Places:
    """Storage for the result, weights, and the list of a gate that has none yet."""
    out_list = list_active(work, node) if decided.gated else None
    read = work.of if decided.listed else work.dense
    x = read(node.inputs[0])
    residual = work.dense(node.inputs[-1]) if decided.epilogue.residual else None
    whole = residual is not None
    storage = work.new(
        node,
        residual.buffer if residual and decided.epilogue.residual == "in_place" else None,
        active=None if whole else out_list,
        cleared=whole or not decided.gated,
        at_least=node["clamp"][0],
    )
    arguments: Arguments = {
        "x": x.buffer,
        **work.constants(node, decided.kernel),
        "y": storage.buffer,
        **list_arguments(x.active),
        **list_arguments(out_list, "out"),
    }
    if residual is not None:
        arguments["residual"] = residual.buffer
    if "placed" in node.attributes:
        arguments["constant"] = work.constant(node, "constant", node["constant"])
        arguments["out_list"] = work.constant(node, "placed", _placed_first(node), INT32)
    if decided.gated:
        arguments["gate"] = factors(work, node)
        arguments["shift"] = work.constant(node, "shift", node["shift"])
    if decided.epilogue.means:
        arguments["sums"] = storage.sums = Buffer(f"{node.name}.sums", decided.kernel.sums)
    return Places(arguments, storage, x.active, out_list, residual)


def emit(work: Workspace, node: Node, decided: Convolution, places: Places) -> None:
    """Adds the step, and the one that makes the list of a gated sum."""
    shape = decided.shape
    lists = places.in_list if shape.groups == 1 else None, places.out_list
    repeat = each_image(x=node.inputs[0], y=node.output, residual=node.output)
    work.add(
        node.name, work.label(node), decided.kernel, places.arguments, decided.macs, lists, repeat
    )
    if places.residual is not None:
        parts = [(active, shape.out_channels) for active in (lists[1], places.residual.active)]
        places.storage.active = work.merge(node, parts, (0, 0))


def fused_residual(work: Workspace, node: Node) -> str | None:
    """How a convolution's epilogue finds the tensor that it adds; None: it adds none."""
    if not node["residual"]:
        return None
    x, value = work.storage.get(node.inputs[0]), node.inputs[-1]
    if not work.only_reader(value) or (x and work.storage[value].buffer is x.buffer):
        return "separate"
    return "in_place"


def _clamp_inactive(work: Workspace, node: Node, residual: str | None) -> bool:
    """Whether a gated sum owes the channels it does not visit the activation of the residual."""
    if residual is None:
        return False
    if node.output.type.quantization is not None:
        return True  # their codes stand for other numbers than the residual's
    low, high = node["clamp"]
    known = work.storage.get(node.inputs[-1])
    at_least = known.at_least if known is not None else None
    bounded = at_least is not None and low is not None and at_least >= low
    unchanged = high is None and (low is None or bounded)
    return not (residual == "in_place" and unchanged)


def _placed_first(node: Node) -> np.ndarray:
    """All channels of the result, those that are computed first."""
    others = sorted(set(range(node.output.channels)) - set(node["placed"]))
    return np.array([*node["placed"], *others])


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
