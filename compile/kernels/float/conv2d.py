"""A convolution that visits only the active channels of its input and of its output.

One schedule for every kernel size, stride, padding, dilation and number of groups, dense or gated
on either side; depthwise convolutions have their own (``window.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from headgate.compile.isa import Isa
from headgate.compile.kernels.conv_loops import Chunk, ConvLoops, Inputs, Pixels, Rows
from headgate.compile.kernels.convolution import ConvRequest, ConvShape, Epilogue, by_channel
from headgate.compile.kernels.float.microkernel import Finish, Weights, accumulate
from headgate.compile.kernels.float.words import (
    SAME,
    Dtypes,
    clamped,
    floats,
    read,
    splat,
    tensor,
    write,
)
from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.lists import list_parameters
from headgate.compile.kernels.packing import pad_rows
from headgate.compile.kernels.split import PART
from headgate.compile.kernels.tiling import Tiling, choose_tiling
from headgate.compile.kernels.tir import Buffer, Expr, let
from headgate.device.tensor_type import TensorType


@dataclass(frozen=True)
class ConvKernel(Kernel):
    """Everything that makes one convolution's code; equal kernels share it."""

    shape: ConvShape
    tiling: Tiling
    epilogue: Epilogue
    gated_in: bool
    clamp_inactive: bool = False
    """Whether inactive output channels are to become the activation of the residual."""
    weight_lanes: int = 1
    placed: int = 0
    """Channels of the tensor among which the outputs are placed; 0: there are no others."""
    dtypes: Dtypes = SAME

    @classmethod
    def of(cls, isa: Isa, *, request: ConvRequest, dtypes: Dtypes = SAME) -> ConvKernel:
        shape, epilogue = request.shape, request.epilogue
        tiling = choose_tiling(shape, isa, gated_in=request.gated_in, gated_out=epilogue.gate)
        sides = (request.gated_in, request.clamp_inactive)
        return cls(shape, tiling, epilogue, *sides, isa.weight_lanes, request.placed, dtypes)

    def parameters(self) -> list[Parameter]:
        names = ["x", "weight", "bias", "y"]
        if self.epilogue.gate:
            names += ["gate", "shift"]
        if self.epilogue.residual == "separate":
            names.append("residual")
        if self.epilogue.means:
            names.append("sums")
        if self.tiling.mode != "direct":
            names.append("scratch")
        found = floats(*names, dtypes=self.dtypes)
        if self.epilogue.gate:
            found += list_parameters("out")
        if self.placed:
            found += [*floats("constant"), list_parameters("out")[0]]
        if self.gated_in:
            found += list_parameters("in")
        return [*found, PART]

    def scratch(self) -> dict[str, TensorType]:
        size = self.tiling.scratch_size(self.shape)
        return {"scratch": tensor(size, dtype=self.dtypes[0])} if size else {}

    @property
    def sums(self) -> TensorType | None:
        """What a following gate finds its channel means in: partial sums (channels, lanes)."""
        if not self.epilogue.means:
            return None
        return tensor(self.shape.out_channels, self.tiling.lanes)

    def constants(self, attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
        weight = attributes["weight"].astype(self.dtypes[0], copy=False)
        return {"weight": weight, "bias": by_channel(attributes, attributes["bias"])}

    def _body(self, **buffers: Buffer) -> None:
        ConvEmitter(self, buffers).run()


class ConvEmitter(ConvLoops):
    """The loops for float32, whose inputs are multiplied one by one."""

    kernel: ConvKernel

    def __init__(self, kernel: ConvKernel, buffers: dict[str, Buffer]) -> None:
        super().__init__(kernel, kernel.shape, buffers)
        self.finish = Finish.of(kernel.epilogue, buffers)

    def inputs(self, group: Expr, first: Expr, count: Expr) -> Inputs:
        shape, gated_in = self.shape, self.kernel.gated_in

        def channel(j: Expr) -> Expr:
            return self.source(first, j)

        def column(j: Expr) -> Expr:
            return (channel(j) - group * shape.group_in if gated_in else j) * shape.taps

        buffer, lanes = self.buffers["weight"], self.kernel.weight_lanes
        weights = Weights(buffer, column, shape.kernel, not gated_in, lanes, shape.group_in)
        return Inputs(count, channel, weights)

    def direct(self, inputs: Inputs) -> Pixels:
        return Pixels(
            self.buffers["x"],
            lambda u: u * self.tiling.lanes,
            lambda j: inputs.channel(j) * self.shape.pixels,
            lambda r, s: 0,
        )

    def pad(self, inputs: Inputs, first: Expr) -> None:
        x, scratch = self.buffers["x"], self.buffers["scratch"]
        pad_rows(self.shape, self.tiling, x, scratch, inputs.count, inputs.channel, first)

    def tile(self, chunk: Chunk, rows: Rows, u: Expr, count: int) -> None:
        lanes, shape = self.tiling.lanes, self.shape
        channels = [channel for _, channel in rows]
        acc = chunk.inputs.weights.sums(len(rows) * count * lanes)
        bases = [let(chunk.pixels.vector(u + v)) for v in range(count)]
        weights = [let(row * (shape.group_in * shape.taps)) for row, _ in rows]
        self.finish.start(acc, channels, count, lanes)
        inputs = chunk.inputs
        accumulate(acc, weights, bases, lanes, inputs.count, inputs.weights, chunk.pixels)
        places = [self.place(u + v, chunk.first) for v in range(count)]
        self.finish.end(acc, channels, shape.pixels, places, lanes)

    def inactive(self, start: Expr, constant: Expr | None) -> Callable[[Expr, int], None]:
        y, epilogue = self.buffers["y"], self.kernel.epilogue
        source = self.buffers.get("residual", y) if epilogue.residual else None

        def move(at: Expr, width: int) -> None:
            parts = [] if source is None else [read(source, start + at, width)]
            parts += [] if constant is None else [splat(constant, width)]
            value = parts[0] + parts[1] if len(parts) == 2 else parts[0]
            write(y, start + at, clamped(value, epilogue.clamp, width), width)

        return move
