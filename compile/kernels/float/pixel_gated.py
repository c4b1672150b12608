"""A convolution whose pixels get their full sum only where a part of it says that they need it.

A vector that nobody needs costs one multiply-add more than its partial sum, for its batch norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tvm import tirx

from headgate.compile.isa import Isa
from headgate.compile.kernels import tir
from headgate.compile.kernels.conv_loops import Chunk, Pixels
from headgate.compile.kernels.convolution import ConvRequest
from headgate.compile.kernels.float.conv2d import ConvEmitter, ConvKernel
from headgate.compile.kernels.float.microkernel import Weights, accumulate
from headgate.compile.kernels.float.words import SAME, Dtypes, floats, local, splat, tensor
from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.pixel_loops import PixelGate, PixelLoops, Unit, most_vectors
from headgate.compile.kernels.tiling import choose_tiling
from headgate.compile.kernels.tir import Buffer, Expr, int32, let, load, loop, store
from headgate.device.tensor_type import INT32, TensorType

_AFFINE = ("gate_scale", "gate_bias", "base_scale", "base_bias", "full_scale")


@dataclass(frozen=True)
class PixelGatedConv(Kernel):
    """A dense convolution and the gate on its pixels."""

    convolution: ConvKernel
    gate: PixelGate

    @classmethod
    def of(
        cls, isa: Isa, *, request: ConvRequest, gate: PixelGate, dtypes: Dtypes = SAME
    ) -> PixelGatedConv:
        run = gate.block[1]
        tiling = choose_tiling(request.shape, isa, rows=gate.rows, run_pixels=run)
        dense = ConvKernel(
            *(request.shape, tiling, request.epilogue, False),
            weight_lanes=isa.weight_lanes,
            dtypes=dtypes,
        )
        return cls(dense, gate)

    @property
    def tile(self) -> tuple[int, int]:
        """Output channels x pixels that are computed or left out together."""
        tiling = self.convolution.tiling
        return tiling.rows, tiling.lanes

    def scratch(self) -> dict[str, TensorType]:
        shape, tiling = self.convolution.shape, self.convolution.tiling
        vectors = most_vectors(shape, tiling)
        return {
            "partial": tensor(self.gate.unit(tiling), vectors, tiling.lanes),
            "vectors": TensorType((vectors,), INT32),
            **self.convolution.scratch(),
        }

    def parameters(self) -> list[Parameter]:
        """``bias`` is the full path's."""
        counts = [("vectors", INT32), ("executed", INT32)]
        return [*self.convolution.parameters(), *floats(*_AFFINE, "partial"), *counts]

    def constants(self, attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
        own = self.convolution.constants({**attributes, "bias": attributes["full_bias"]})
        return {**own, **{name: attributes[name] for name in _AFFINE}}

    def _body(self, **buffers: Buffer) -> None:
        _Emitter(self, buffers).run()


@dataclass(frozen=True)
class _Path:
    """One of the two paths: how many inputs it has, their weights and pixels."""

    inputs: int
    weights: Weights
    pixels: Pixels


class _Emitter(PixelLoops, ConvEmitter):
    def __init__(self, kernel: PixelGatedConv, buffers: dict[str, Buffer]) -> None:
        super().__init__(kernel.convolution, buffers)
        self.gate, self.lanes = kernel.gate, self.tiling.lanes

    def path(self, chunk: Chunk, part: Expr, *, base: bool) -> _Path:
        """The inputs of one path for the outputs of ``part``."""
        each = self.shape.in_channels // self.gate.partitions
        start = part * each

        def nth(j: Expr) -> Expr:
            if base:
                return start + j
            if isinstance(start, int):
                return j + each
            return j + tirx.Select(j >= start, int32(each), int32(0))

        weights, pixels = chunk.inputs.weights, chunk.pixels
        return _Path(
            each if base else self.shape.in_channels - each,
            replace(
                weights,
                column=lambda j: weights.column(nth(j)),
                # Four neighbours at a time must not straddle the base path.
                contiguous=weights.contiguous and each % 4 == 0,
                inputs=each if base else self.shape.in_channels - each,
            ),
            replace(pixels, plane=lambda j: pixels.plane(nth(j))),
        )

    def partial_sums(
        self, chunk: Chunk, part: Expr, unit: Unit, u: Expr, count: int, vectors: int
    ) -> None:
        base = self.path(chunk, part, base=True)
        lanes, partial = self.lanes, self.buffers["partial"]
        with loop(unit.tiles) as tile:
            channels = self.channels(unit, tile)
            acc = local(unit.rows * count * lanes)
            for cell in range(unit.rows * count):
                store(acc, cell * lanes, splat(0, lanes), lanes)
            self.accumulate(acc, channels, [u + v for v in range(count)], base)
            for i in range(unit.rows):
                for v in range(count):
                    into = ((tile * unit.rows + i) * vectors + u + v) * lanes
                    store(partial, into, load(acc, (i * count + v) * lanes, lanes), lanes)

    def accumulate(self, acc: Buffer, channels: list[Expr], us: list[Expr], path: _Path) -> None:
        """Adds one path to a register tile."""
        bases = [let(path.pixels.vector(u)) for u in us]
        rows = [let(c * (self.shape.group_in * self.shape.taps)) for c in channels]
        accumulate(acc, rows, bases, self.lanes, path.inputs, path.weights, path.pixels)

    def needs_rest(self, unit: Unit, first: Expr, size: Expr, real: Expr, vectors: int) -> Expr:
        # The sum over a block has the sign of its mean; without blocks the sum of what is positive
        # is more than zero if anything is.
        lanes = self.lanes
        acc = local(lanes)
        store(acc, 0, splat(0, lanes), lanes)
        with loop(unit.count) as row, loop(size) as v:
            at = (row * vectors + first + v) * lanes
            value = self.affine("gate", unit.first + row, load(self.buffers["partial"], at, lanes))
            if self.gate.single:
                value = tir.maximum(value, splat(0, lanes))
            lane = tir.T.ramp(v * lanes, 1, lanes)
            counted = tirx.Select(lane < tir.T.broadcast(real, lanes), value, splat(0, lanes))
            store(acc, 0, load(acc, 0, lanes) + counted, lanes)
        return tir.lane_sum(load(acc, 0, lanes), lanes) > splat(0, 1)

    def affine(self, name: str, channel: Expr, value: Expr) -> Expr:
        """A folded batch norm: ``name_scale[channel] * value + name_bias[channel]``."""
        scale = self.buffers[f"{name}_scale"]
        bias = self.buffers["bias" if name == "full" else f"{name}_bias"]
        return value * splat(scale[channel], self.lanes) + splat(bias[channel], self.lanes)

    def finish_tile(
        self, chunk: Chunk, part: Expr, unit: Unit, us: list[Expr], rest: bool, vectors: int
    ) -> None:
        lanes, partial = self.lanes, self.buffers["partial"]
        with loop(unit.tiles) as tile:
            channels = self.channels(unit, tile)
            acc = local(unit.rows * len(us) * lanes)

            def kept(i: int, v: int, tile: Expr = tile) -> Expr:
                at = ((tile * unit.rows + i) * vectors + us[v]) * lanes
                return load(partial, at, lanes)

            cells = [(i, v) for i in range(unit.rows) for v in range(len(us))]
            for i, v in cells:
                store(acc, (i * len(us) + v) * lanes, kept(i, v), lanes)
            if rest:
                path = self.path(chunk, part, base=False)
                self.accumulate(acc, channels, us, path)
            for i, v in cells:
                cell = (i * len(us) + v) * lanes
                value = load(acc, cell, lanes)
                if not rest:
                    value = self.affine("base", channels[i], value)
                else:
                    value = self.affine("full", channels[i], value)
                    if self.gate.single:
                        before = let(kept(i, v))
                        on = self.affine("gate", channels[i], before) > splat(0, lanes)
                        off = self.affine("base", channels[i], before)
                        value = tirx.Select(on, value, off)
                store(acc, cell, value, lanes)
            places = [self.place(u, chunk.first) for u in us]
            self.finish.end(acc, channels, self.shape.pixels, places, lanes)
