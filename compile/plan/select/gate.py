"""What gates are made of: means of channels, the top k, and lists of the channels they choose."""

from __future__ import annotations

import numpy as np

from headgate.compile.front.graph import Node
from headgate.compile.plan.steps import ActiveList, Buffer, Constant
from headgate.compile.plan.workspace import Arguments, Workspace, each_image, list_arguments


def channel_mean(work: Workspace, node: Node) -> None:
    """Adds the step of a ``channel_mean`` node, for a gate or for a classifier."""
    value = node.inputs[0]
    x = work.of(value)
    # A classifier skips what is known to be zero; gate predictors are too small for that to pay.
    active = None if node in work.gate_nodes else x.active
    storage = work.new(node, at_least=x.at_least, active=active)
    absolute = node["absolute"] and not (x.at_least is not None and x.at_least >= 0)
    sums = None if absolute else x.sums
    more = {} if node.output.type.quantization is None else {"clamp": node["clamp"]}
    make = work.kernel("channel_mean", value.dtype, node.output.dtype, gated=x.active is not None)
    kernel = make(
        channels=value.channels,
        pixels=value.pixels,
        gated=x.active is not None,
        absolute=absolute,
        sums=sums and sums.type.shape[1],
        **more,
    )
    arguments = {
        "x": sums or x.buffer,
        "y": storage.buffer,
        **work.constants(node, kernel),
        **list_arguments(x.active),
    }
    repeat = each_image(x=value, y=node.output)
    work.add(node.name, work.label(node), kernel, arguments, repeat=repeat)


def keep_top_k(work: Workspace, node: Node) -> None:
    """Adds the step of a ``keep_top_k`` node."""
    x = work.dense(node.inputs[0])
    kernel = work.kernel("keep_top_k", node.output.dtype)(channels=node.output.size, keep=node["k"])
    arguments: Arguments = {"x": x.buffer, "y": work.new(node).buffer}
    work.add(node.name, work.label(node), kernel, arguments)


def known_list(work: Workspace, node: Node) -> ActiveList | None:
    """The list of a gated convolution's channels, if another with its gate has had it made."""
    known = work.lists.get(node.inputs[1])
    return known if known is not None and known.channels == node.output.channels else None


def list_active(work: Workspace, node: Node) -> ActiveList:
    """The list of channels that a gate makes active, made where it is first asked for."""
    known = known_list(work, node)
    if known is not None:
        return known
    gate, channels = work.dense(node.inputs[1]).buffer, node.output.channels
    active = work.new_list(node.name, channels)
    kernel = work.kernel("list_active", node.inputs[1].dtype)(channels=channels)
    work.add(active.name, "gate", kernel, {"gate": gate, **list_arguments(active, "out")})
    work.lists[node.inputs[1]] = active
    return active


def factors(work: Workspace, node: Node) -> Buffer | Constant:
    """What active channels are multiplied with: one where a convolution only follows a gate."""
    if node.attributes.get("follows"):
        return work.constant(node, "ones", np.ones(node.output.channels))
    return work.of(node.inputs[1]).buffer
