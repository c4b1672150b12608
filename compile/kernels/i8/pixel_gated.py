"""A convolution of codes whose pixels get their full sum only where a part of it asks for it.

Inputs lie in words by partition: what the base path of some outputs reads is whole words, and the
conditional path is the words of the other partitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tvm import tirx

from headgate.compile.isa.base import DotIsa
from headgate.compile.kernels import tir
from headgate.compile.kernels.conv_loops import Chunk, Inputs, masked, store_vector
from headgate.compile.kernels.convolution import ConvRequest
from headgate.compile.kernels.i8.conv2d import ConvEmitter, ConvKernel, in_words, pack
from headgate.compile.kernels.i8.microkernel import Weights, accumulate, zero
from headgate.compile.kernels.i8.words import CODES_PER_WORD, apart, cleared, correction, wide
from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.pixel_loops import PixelGate, PixelLoops, Unit, most_vectors
from headgate.compile.kernels.tiling import choose_tiling
from headgate.compile.kernels.tir import Buffer, Expr, let, load, loop, splat, store
from headgate.device.tensor_type import FLOAT32, INT32, TensorType

_AFFINE = ("shift", "base_factor", "base_shift", "score_factor", "score_shift")


@dataclass(frozen=True)
class PixelGatedConv(Kernel):
    """A dense convolution and the gate on its pixels; ``in_channels`` is that of its input.

    The shape of ``convolution`` counts each partition's channels up to whole words.
    """

    convolution: ConvKernel
    gate: PixelGate
    in_channels: int

    @classmethod
    def of(
        cls,
        isa: DotIsa,
        *_: Any,
        request: ConvRequest,
        gate: PixelGate,
        dtypes: tuple[str, ...],
    ) -> PixelGatedConv:
        channels, parts = request.shape.in_channels, gate.partitions
        each = -(-channels // (parts * CODES_PER_WORD)) * CODES_PER_WORD
        shape = replace(request.shape, in_channels=parts * each)
        words = in_words(shape, isa.lanes)
        rows = min(gate.rows, isa.rows)
        run = gate.block[1]
        tiling = choose_tiling(words, isa, rows=rows, run_pixels=run, packed=True)
        dense = ConvKernel(
            *(isa, shape, words, tiling, request.epilogue),
            gated_in=False,
            clamp_inactive=False,
            placed=0,
            dtypes=dtypes,
        )
        return cls(dense, gate, channels)

    @property
    def tile(self) -> tuple[int, int]:
        """Output channels x pixels that are computed or left out together."""
        tiling = self.convolution.tiling
        return tiling.rows, tiling.lanes

    def scratch(self) -> dict[str, TensorType]:
        tiling = self.convolution.tiling
        vectors = most_vectors(self.convolution.words, tiling)
        return {
            "partial": TensorType((self.gate.unit(tiling), vectors, tiling.lanes), INT32),
            "vectors": TensorType((vectors,), INT32),
            **self.convolution.scratch(),
        }

    def parameters(self) -> list[Parameter]:
        """``base_bias`` undoes the flips of the base path, ``bias`` those of the rest."""
        floats = [(name, FLOAT32) for name in _AFFINE]
        counts = [(name, INT32) for name in ("base_bias", "partial", "vectors", "executed")]
        return [*self.convolution.parameters(), *floats, *counts]

    def constants(self, attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
        weight, parts = attributes["weight"], self.gate.partitions
        outputs, inputs, *kernel = weight.shape
        by_part = weight.reshape(outputs, parts, inputs // parts, *kernel)
        more = self.convolution.shape.in_channels // parts - inputs // parts
        padded = np.pad(by_part, [(0, 0), (0, 0), (0, more), *[(0, 0)] * len(kernel)])
        sums = padded.reshape(outputs, parts, -1).sum(axis=2, dtype=np.int64)
        own = np.arange(outputs) * parts // outputs if self.gate.grouped else 0
        base = np.broadcast_to(sums[np.arange(outputs), own], (outputs,))
        undo = correction(self.convolution.isa, self.convolution.dtypes[0])
        found = {
            "weight": pack(padded.reshape(outputs, -1, *kernel)),
            "base_bias": (undo * base).astype(np.int32),
            "bias": (undo * (sums.sum(axis=1) - base)).astype(np.int32),
            "factor": attributes["factor"],
            **{name: attributes[name] for name in _AFFINE},
        }
        if self.convolution.epilogue.residual:
            found["residual_factor"] = np.array([attributes["residual_factor"]], np.float32)
        return found

    def _body(self, **buffers: Buffer) -> None:
        _Emitter(self, buffers).run()


class _Emitter(PixelLoops, ConvEmitter):
    def __init__(self, kernel: PixelGatedConv, buffers: dict[str, Buffer]) -> None:
        super().__init__(kernel.convolution, buffers)
        self.gate, self.lanes, self._in_channels = (
            kernel.gate,
            self.tiling.lanes,
            kernel.in_channels,
        )
        self.cell = self.lanes * self.isa.partials
        self.each = self.shape.in_channels // self.gate.partitions
        """Words of a partition."""

    @property
    def in_channels(self) -> int:
        return self._in_channels

    def inputs(self, group: Expr, first: Expr, count: Expr) -> Inputs:
        parts, room = self.gate.partitions, self.each * CODES_PER_WORD
        size = self.in_channels // parts

        def channel(j: Expr) -> Expr:
            if size == room:
                return self.source(0, j)
            # What fills a word up repeats a channel, and meets weights that are zero.
            part, place = tir.T.floordiv(j, room), tir.T.floormod(j, room)
            return self.source(0, part * size + tir.minimum(place, size - 1))

        return Inputs(self.shape.in_channels, channel, count)

    def accumulate(
        self, chunk: Chunk, part: Expr, channels: list[Expr], us: list[Expr], *, base: bool
    ) -> Buffer:
        """The sums of one path in a register tile, before flips are undone."""
        bases = [let(chunk.pixels.vector(u)) for u in us]
        weights = Weights(self.buffers["weight"], self.pitch, self.shape.kernel)
        size = len(channels) * len(us) * self.cell
        acc = tir.local(size, INT32)
        zero(acc, size, self.cell)

        def add(index: Expr) -> None:
            first, pixels = let(index * self.each), chunk.pixels
            accumulate(
                self.isa,
                acc,
                [let(weights.row(c) + first) for c in channels],
                bases,
                self.lanes,
                self.each,
                weights,
                replace(pixels, plane=lambda j: pixels.plane(first + j)),
                self.isa.operand(self.dtype),
            )

        if base:
            add(part)
            return acc
        with loop(self.gate.partitions - 1) as other:
            behind = isinstance(part, int) and part == 0
            one = 1 if behind else tirx.Select(other >= part, tir.int32(1), tir.int32(0))
            add(let(other + one))
        return acc

    def summed(self, acc: Buffer, cell: int, name: str, channel: Expr) -> Expr:
        """The sums of a cell of the tile, with flips undone."""
        bias = splat(self.buffers[name][channel], self.lanes, INT32)
        return self.isa.sums(load(acc, cell * self.cell, self.cell), self.lanes) + bias

    def kept(self, row: Expr, u: Expr, vectors: int) -> Expr:
        """The partial sums of a row of the unit."""
        return load(self.buffers["partial"], (row * vectors + u) * self.lanes, self.lanes)

    def partial_sums(
        self, chunk: Chunk, part: Expr, unit: Unit, u: Expr, count: int, vectors: int
    ) -> None:
        with loop(unit.tiles) as tile:
            channels = self.channels(unit, tile)
            us = [u + v for v in range(count)]
            acc = self.accumulate(chunk, part, channels, us, base=True)
            for i, channel in enumerate(channels):
                for v in range(count):
                    into = ((tile * unit.rows + i) * vectors + us[v]) * self.lanes
                    value = self.summed(acc, i * count + v, "base_bias", channel)
                    store(self.buffers["partial"], into, value, self.lanes)

    def affine(self, name: str, channel: Expr, value: Expr) -> Expr:
        """``factor x value``, rounded, and the shift."""
        names = ("factor", "shift") if not name else (f"{name}_factor", f"{name}_shift")
        factor, shift = (splat(self.buffers[n][channel], self.lanes, FLOAT32) for n in names)
        return apart(wide(value, self.lanes, FLOAT32) * factor, self.lanes) + shift

    def score(self, channel: Expr, value: Expr) -> Expr:
        """Whole numbers, whose sums are exact in any order."""
        return self.isa.rounded(self.affine("score", channel, value), self.lanes)

    def needs_rest(self, unit: Unit, first: Expr, size: Expr, real: Expr, vectors: int) -> Expr:
        lanes = self.lanes
        acc = cleared(lanes, lanes)
        with loop(unit.count) as row, loop(size) as v:
            value = self.score(unit.first + row, self.kept(row, first + v, vectors))
            if self.gate.single:
                value = tir.maximum(value, splat(0, lanes, INT32))
            counted = masked(value, real - v * lanes, lanes, INT32)
            store(acc, 0, load(acc, 0, lanes) + counted, lanes)
        return tir.lane_sum(load(acc, 0, lanes), lanes) > 0

    def finish_tile(
        self, chunk: Chunk, part: Expr, unit: Unit, us: list[Expr], rest: bool, vectors: int
    ) -> None:
        lanes, count, y = self.lanes, len(us), self.finish.result
        with loop(unit.tiles) as tile:
            channels = self.channels(unit, tile)
            places = [self.place(u, chunk.first) for u in us]
            acc = (
                self.accumulate(chunk, part, channels, us, base=False)
                if rest
                else tir.local(unit.rows * count * self.cell, INT32)
            )
            # Everything is read before anything is written: a surplus row repeats a channel.
            for i, channel in enumerate(channels):
                for v in range(count):
                    cell = i * count + v
                    before = let(self.kept(tile * unit.rows + i, us[v], vectors))
                    if rest:
                        value = before + self.summed(acc, cell, "bias", channel)
                        value = self.affine("", channel, value)
                        if self.gate.single:
                            on = self.score(channel, before) > splat(0, lanes, INT32)
                            value = tirx.Select(on, value, self.affine("base", channel, before))
                    else:
                        value = self.affine("base", channel, before)
                    if self.kernel.epilogue.residual:
                        at = channel * self.shape.pixels + places[v].offset
                        value = self.finish.added(value, at, lanes)
                    store(acc, cell * self.cell, self.finish.code(value, lanes), lanes)
            for i, channel in enumerate(channels):
                for v, place in enumerate(places):
                    value = load(acc, (i * count + v) * self.cell, lanes)
                    start = channel * self.shape.pixels
                    store_vector(y, wide(value, lanes, y.dtype), start, place, lanes)
