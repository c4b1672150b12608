"""A depthwise convolution by SMLAD: neighbours in a row meet pairs of taps.

A channel's plane is copied with its border as numbers of 16 bits. Without a stride four results
side by side share the pairs that they read: those at even places meet the taps as they are, the
others meet them moved by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tvm import tirx

from headgate.compile.isa.base import DotIsa
from headgate.compile.isa.smlad import multiply_add, pairing
from headgate.compile.isa.vector import read_as
from headgate.compile.kernels import tir
from headgate.compile.kernels.convolution import ConvRequest, ConvShape, Epilogue
from headgate.compile.kernels.i8 import window
from headgate.compile.kernels.i8.epilogue import epilogue_parameters
from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.lists import list_parameters, visited
from headgate.compile.kernels.smlad.columns import Columns
from headgate.compile.kernels.smlad.finish import Finish
from headgate.compile.kernels.smlad.layout import Layout
from headgate.compile.kernels.smlad.words import quotient
from headgate.compile.kernels.tir import Buffer, Expr, let, load, loop, store
from headgate.device.tensor_type import FLOAT32, INT16, INT32, TensorType

TILE = 4
"""Results of a row that are computed together."""


@dataclass(frozen=True)
class Depthwise(Kernel):
    """A convolution with one group for each input, of which only active outputs are visited."""

    shape: ConvShape
    epilogue: Epilogue
    dtypes: tuple[str, ...]
    """Of the input, of the residual where there is one, and of the result."""

    @classmethod
    def of(cls, isa: DotIsa, *_: Any, request: ConvRequest, dtypes: tuple[str, ...]) -> Kernel:
        """This kernel, or that of any instructions where taps are no neighbours."""
        if request.shape.dilation[1] > 1 or request.clamp_inactive or request.placed:
            return window.Depthwise.of(isa, request=request, dtypes=dtypes)
        return cls(request.shape, request.epilogue, dtypes)

    @property
    def layout(self) -> Layout:
        """Of one channel; its rows begin at whole words."""
        shape = replace(self.shape, in_channels=1, out_channels=1, groups=1)
        top, left, bottom, right = shape.padding
        odd = (shape.width + left + right) % 2
        return Layout(replace(shape, padding=(top, left, bottom, right + odd)), "rows")

    @property
    def shares(self) -> bool:
        """Whether neighbouring results read the same pairs."""
        return self.shape.stride[1] == 1

    @property
    def row_words(self) -> tuple[int, int]:
        """Pairs of a row of taps, as they are and moved by one."""
        width = self.shape.kernel[1]
        return -(-width // 2), width // 2 + 1 if self.shares else 0

    def parameters(self) -> list[Parameter]:
        x, *_, y = self.dtypes
        found = [("x", x), ("weight", INT32), ("bias", INT32), ("factor", FLOAT32), ("y", y)]
        found += epilogue_parameters(self.epilogue, self.dtypes)
        found.append(("packed", INT16))
        return [*found, *(list_parameters("out") if self.epilogue.gate else [])]

    def scratch(self) -> dict[str, TensorType]:
        # The last pairs of a row may lie in the next one, or behind the last.
        return {"packed": TensorType((self.layout.packed + 2 * TILE,), INT16)}

    def constants(self, attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The kernel's constant arguments from those of its node."""
        found = {
            "weight": self._pairs(attributes["weight"][:, 0]),
            "bias": attributes["bias"],
            "factor": attributes["factor"],
        }
        if self.epilogue.residual:
            found["residual_factor"] = np.array([attributes["residual_factor"]], np.float32)
        return found

    def _pairs(self, weight: np.ndarray) -> np.ndarray:
        """Weights int8 (outputs, rows, columns) as words (outputs, rows x pairs of a row)."""
        outputs, height, width = weight.shape
        found = []
        for moved, words in enumerate(self.row_words):
            taps = np.zeros((outputs, height, 2 * words), np.int16)
            if words:
                taps[:, :, moved : moved + width] = weight
            found.append(taps)
        return np.concatenate(found, axis=2).view(np.int32).reshape(outputs, -1)

    def _body(self, **buffers: Buffer) -> None:
        shape, layout = self.shape, self.layout
        finish = Finish.of(self.epilogue, self.dtypes, buffers)
        lists = [buffers[name] for name, _ in list_parameters("out") if self.epilogue.gate]
        count, nth = visited(shape.out_channels, *lists)
        per_input = shape.out_channels // shape.in_channels
        with pairing(), loop(count) as j:
            channel = let(nth(j))
            source = quotient(channel, per_input)
            plane = Columns(layout, buffers["x"], buffers["packed"], None, 1, lambda _: source)
            row = _Row(self, buffers, finish, channel)

            def chunk(first: Expr, plane: Columns = plane, row: _Row = row) -> None:
                plane.fill(first)
                rows = let(tir.minimum(shape.out_height - first, layout.chunk))
                with loop(layout.chunk if plane.whole else rows) as y:
                    start = let(y * (shape.stride[0] * layout.pitch))
                    row.results(start, let((first + y) * shape.out_width))

            plane.chunks(chunk)


class _Row:
    """The results of one row of one channel, from what the channel keeps in registers."""

    def __init__(
        self, kernel: Depthwise, buffers: dict[str, Buffer], finish: Finish, channel: Expr
    ) -> None:
        self.kernel, self.finish = kernel, finish
        self.packed, self.weight = buffers["packed"], buffers["weight"]
        scale, gate = buffers["factor"][channel], kernel.epilogue.gate
        self.scale = let(scale * buffers["gate"][channel] if gate else scale)
        self.shift = let(buffers["shift"][channel]) if gate else None
        self.bias = let(buffers["bias"][channel])
        words = kernel.shape.kernel[0] * sum(kernel.row_words)
        self.taps, self.plane = let(channel * words), let(channel * kernel.shape.pixels)

    def results(self, start: Expr, pixel: Expr) -> None:
        """All of a row: its first taps lie at ``start``, it begins at ``pixel`` of its plane."""
        width, across = self.kernel.shape.out_width, self.kernel.shape.stride[1]
        with loop(width // TILE) as u:
            self._tile(let(start + u * (TILE * across)), let(pixel + u * TILE), TILE)
        done = width // TILE * TILE
        if width > done:
            self._tile(let(start + done * across), let(pixel + done), width - done)

    def _tile(self, start: Expr, pixel: Expr, size: int) -> None:
        acc = tir.local(size, INT32)
        for v in range(size):
            store(acc, v, self.bias)
        for r in range(self.kernel.shape.kernel[0]):
            self._taps(acc, start, r, size)
        at = let(self.plane + pixel)
        for v in range(size):
            residual = at + v if self.kernel.epilogue.residual else None
            store(acc, v, self.finish.result_of(acc[v], self.scale, self.shift, residual))
        y = self.finish.result
        for v in range(size):
            store(y, at + v, tirx.Cast(y.dtype, acc[v]))

    def _taps(self, acc: Buffer, start: Expr, r: int, size: int) -> None:
        """One row of taps for each of ``size`` results."""
        kernel = self.kernel
        as_they_are, moved = kernel.row_words
        across = kernel.shape.stride[1]
        here = start + r * (kernel.shape.dilation[0] * kernel.layout.pitch)
        first = self.taps + r * (as_they_are + moved)
        own = [let(self.weight[first + i]) for i in range(as_they_are + moved)]
        read: dict[int, Expr] = {}
        for v in range(size):
            odd = kernel.shares and v % 2 == 1
            begin = v - odd if kernel.shares else v * across
            for i in range(moved if odd else as_they_are):
                place = begin + 2 * i
                if place not in read:
                    pair = load(self.packed, here + place, 2)
                    read[place] = let(read_as(INT32, 1, pair))
                tap = own[as_they_are + i if odd else i]
                store(acc, v, multiply_add(read[place], tap, acc[v]))
