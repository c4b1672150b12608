"""The kernel of a convolution with a pixel gate, and where it counts what it computed."""

from __future__ import annotations

from headgate.compile.front.graph import Node
from headgate.compile.kernels.conv2d import ConvKernel
from headgate.compile.kernels.microkernel import Epilogue
from headgate.compile.kernels.pixel_gated import PixelGate, PixelGatedConv
from headgate.compile.kernels.tiling import choose_tiling
from headgate.compile.plan.convolution import Arguments, fused_residual, window_shape
from headgate.compile.plan.steps import Buffer
from headgate.compile.plan.workspace import Workspace
from headgate.errors import CompileError

_FLOATS = ("weight", "gate_scale", "gate_bias", "base_scale", "base_bias", "full_scale")


def pixel_gated(work: Workspace, node: Node) -> None:
    """Adds the step of a ``pixel_gated_conv2d`` node.

    Raises:
        CompileError: its blocks do not consist of whole register tiles.
    """
    shape = window_shape(node)
    gate = PixelGate(node["partitions"], node["grouped"], node["shuffle"], node["block"])
    _check_block(node, shape.out_channels // (gate.partitions if gate.grouped else 1))
    x = work.dense(node.inputs[0])
    residual, kind = fused_residual(work, node, x)
    storage = work.new(node, at_least=node["clamp"][0])
    if residual is not None and kind == "in_place":
        storage.buffer = residual.buffer
    tiling = choose_tiling(shape, work.target, rows=gate.rows, run_pixels=gate.block[1])
    epilogue = Epilogue(residual=kind, clamp=node["clamp"])
    dense = ConvKernel(shape, tiling, epilogue, False, weight_lanes=work.target.weight_lanes)
    kernel = PixelGatedConv(dense, gate)
    numbers = shape.out_channels * shape.pixels
    count = work.new_count(node.name, numbers)
    arguments: Arguments = {
        **{name: work.constant(node, name, node[name]) for name in _FLOATS},
        "x": x.buffer,
        "y": storage.buffer,
        "bias": work.constant(node, "full_bias", node["full_bias"]),
        "partial": Buffer(f"{node.output.name}.partial", kernel.partial_bytes),
        "vectors": Buffer(f"{node.output.name}.vectors", kernel.list_bytes),
        "executed": count.count,
    }
    if residual is not None and kind == "separate":
        arguments["residual"] = residual.buffer
    if tiling.scratch_bytes(shape):
        arguments["scratch"] = Buffer(f"{node.name}.scratch", tiling.scratch_bytes(shape))
    share = shape.in_channels // gate.partitions
    rest = shape.taps * (shape.in_channels - share)
    step = work.add(node.name, node.kind, kernel, arguments, (rest, 1, numbers), (None, count))
    step.base_macs = shape.taps * share * numbers
    step.pixel_tile = (gate.rows, tiling.lanes)


def _check_block(node: Node, chunk: int) -> None:
    channels, pixels = node["block"]
    whole = channels % 4 == 0 and chunk % channels == 0 and pixels % 16 == 0
    if (channels, pixels) != (1, 1) and not whole:
        raise CompileError(
            f"The pixel gate of module {node.name!r} decides by {channels} channels x {pixels} "
            f"pixels; use 1 x 1, or a multiple of 4 channels that divides {chunk} by a multiple "
            "of 16 pixels."
        )
