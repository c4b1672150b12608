"""The kernel of a convolution with a pixel gate, and where it counts what it computed."""

from __future__ import annotations

from headgate.compile.front.graph import Node
from headgate.compile.kernels.convolution import ConvRequest, Epilogue
from headgate.compile.kernels.pixel_loops import PixelGate
from headgate.compile.plan.select.conv import fused_residual, window_shape
from headgate.compile.plan.workspace import Arguments, Workspace
from headgate.errors import CompileError


def pixel_gated(work: Workspace, node: Node) -> None:
    """Adds the step of a ``pixel_gated_conv2d`` node.

    Raises:
        CompileError: its blocks do not consist of whole register tiles.
    """
    shape = window_shape(node)
    gate = PixelGate(node["partitions"], node["grouped"], node["shuffle"], node["block"])
    _check_block(node, shape.out_channels // (gate.partitions if gate.grouped else 1))
    epilogue = Epilogue(residual=fused_residual(work, node), clamp=node["clamp"])
    operands = [node.inputs[0], *(node.inputs[1:] if epilogue.residual else []), node.output]
    make = work.kernel(node.kind, *(value.dtype for value in operands), gated=True)
    kernel = make(request=ConvRequest(shape, epilogue), gate=gate)
    x = work.dense(node.inputs[0])
    residual = work.dense(node.inputs[-1]) if epilogue.residual else None
    in_place = residual.buffer if residual and epilogue.residual == "in_place" else None
    storage = work.new(node, in_place, at_least=node["clamp"][0])
    numbers = shape.out_channels * shape.pixels
    count = work.new_count(node.name, numbers)
    arguments: Arguments = {
        **work.constants(node, kernel),
        "x": x.buffer,
        "y": storage.buffer,
        "executed": count.count,
    }
    if residual is not None:
        arguments["residual"] = residual.buffer
    share = shape.in_channels // gate.partitions
    rest = shape.taps * (shape.in_channels - share)
    step = work.add(node.name, node.kind, kernel, arguments, (rest, 1, numbers), (None, count))
    step.base_macs = shape.taps * share * numbers
    step.pixel_tile = kernel.tile


def _check_block(node: Node, chunk: int) -> None:
    channels, pixels = node["block"]
    whole = channels % 4 == 0 and chunk % channels == 0 and pixels % 16 == 0
    if (channels, pixels) != (1, 1) and not whole:
        raise CompileError(
            f"The pixel gate of module {node.name!r} decides by {channels} channels x {pixels} "
            f"pixels; use 1 x 1, or a multiple of 4 channels that divides {chunk} by a multiple "
            "of 16 pixels."
        )
