"""A fully connected layer of int8, vectorised over outputs.

The weights are packed once, when compiling, as ``[block of outputs][word of inputs][output]``. An
input channel that was flattened with its pixels is a run of words, which is skipped where the
channel is inactive.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from headgate.compile.isa.base import DotIsa
from headgate.compile.isa.vector import read_as
from headgate.compile.kernels import tir
from headgate.compile.kernels.convolution import Clamp
from headgate.compile.kernels.float.words import clamped
from headgate.compile.kernels.i8.words import (
    CODES_PER_WORD,
    apart,
    cleared,
    code,
    correction,
    flip_word,
    wide,
)
from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.lists import list_parameters
from headgate.compile.kernels.split import PART, share
from headgate.compile.kernels.tir import Buffer, Expr, let, load, loop, splat, store, when
from headgate.device.tensor_type import FLOAT32, INT32

MAX_VECTORS = 4
"""Vectors of outputs side by side: as many chains of additions as hide their latency."""


@dataclass(frozen=True)
class Linear(Kernel):
    """``y = weight @ x + bias`` for one vector ``x``, as codes or as float32.

    ``run`` inputs, a multiple of four, belong to each channel of a gated input.
    """

    isa: DotIsa
    inputs: int
    outputs: int
    dtypes: tuple[str, str]
    """Of the input and the result."""
    clamp: Clamp
    """Codes, or the bounds of an activation where the result is float32."""
    gated: bool = False
    run: int = 1

    word: ClassVar[int] = CODES_PER_WORD
    """Inputs that are multiplied together."""
    packed: ClassVar[str] = INT32
    """As what packed weights are read."""

    @classmethod
    def of(cls, isa: DotIsa, *_: Any, **asked: Any) -> Linear:
        return cls(isa, **asked)

    @property
    def lanes(self) -> int:
        return self.isa.lanes_over(self.outputs)

    @property
    def vectors(self) -> int:
        return min(MAX_VECTORS, -(-self.outputs // self.lanes))

    @property
    def block(self) -> int:
        """Outputs in a block of packed weights."""
        return self.vectors * self.lanes

    @property
    def blocks(self) -> int:
        return -(-self.outputs // self.block)

    @property
    def words(self) -> int:
        """Words of inputs."""
        return -(-self.inputs // self.word)

    @property
    def corrects(self) -> bool:
        """Whether flips are undone channel by channel, as only active ones are flipped."""
        return self.gated and self._undone() != 0

    def parameters(self) -> list[Parameter]:
        x, y = self.dtypes
        found = [("x", x), ("weight", self.packed), ("bias", INT32), ("factor", FLOAT32), ("y", y)]
        if self.corrects:
            found.append(("corrections", INT32))
        return [*found, *(list_parameters("in") if self.gated else []), PART]

    def constants(self, attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The kernel's constant arguments from those of its node."""
        weight, bias = attributes["weight"], attributes["bias"]
        undone = self._undone()
        channels = self.inputs // self.run
        # Per channel, what flipping its inputs adds to each output.
        per_run = undone * weight.reshape(-1, channels, self.run).sum(axis=2, dtype=np.int64)
        bias = bias if self.gated else bias + per_run.sum(axis=1)
        surplus = self.blocks * self.block - self.outputs
        padded = np.pad(weight, ((0, surplus), (0, -self.inputs % self.word)))
        blocks = padded.reshape(self.blocks, self.block, self.words, self.word)
        in_order = np.ascontiguousarray(blocks.transpose(0, 2, 1, 3), np.int8)
        found = {
            "weight": in_order.view(self.packed).reshape(-1),
            "bias": np.pad(bias, (0, surplus)).astype(np.int32),
            "factor": np.pad(attributes["factor"], (0, surplus)),
        }
        if self.corrects:
            by_block = np.pad(per_run, ((0, surplus), (0, 0))).reshape(self.blocks, self.block, -1)
            found["corrections"] = by_block.transpose(0, 2, 1).astype(np.int32).reshape(-1)
        return found

    def _body(self, **buffers: Buffer) -> None:
        lanes, isa, part = self.lanes, self.isa, buffers["part"]
        cell = lanes * isa.partials
        per_run = self.run // self.word if self.gated else self.words
        first, end = share(self.blocks, 1, part) if self.blocks > 1 else (0, 1)
        with loop(end - first) as index:
            block = first + index
            acc = cleared(self.vectors * cell, cell)
            extra = cleared(self.vectors * lanes, lanes) if self.corrects else None

            def run(start: Expr, block: Expr = block, acc: Buffer = acc) -> None:
                """One run of words from ``start`` on."""
                with self._turns(per_run) as k:
                    at = let(start + k)
                    row = let((block * self.words + at) * self.block)
                    self._multiply(buffers["x"], at, buffers["weight"], row, acc)

            if self.gated:
                with loop(let(buffers["in_count"][0])) as j:
                    channel = let(buffers["in_list"][j])
                    run(let(channel * per_run))
                    if extra is not None:
                        row = let((block * (self.inputs // self.run) + channel) * self.block)
                        for v in range(self.vectors):
                            more = load(buffers["corrections"], row + v * lanes, lanes)
                            store(extra, v * lanes, load(extra, v * lanes, lanes) + more, lanes)
            else:
                run(0)
            for v in range(self.vectors):
                total = isa.sums(load(acc, v * cell, cell), lanes)
                if extra is not None:
                    total = total + load(extra, v * lanes, lanes)
                self._finish(buffers, total, block, v)

    def _undone(self) -> int:
        """What the sum of an output's weights is multiplied with, to undo flips of inputs."""
        return correction(self.isa, self.dtypes[0])

    def _turns(self, count: Expr) -> AbstractContextManager[Expr]:
        """The loop over the words of a run."""
        return loop(count)

    def _multiply(self, x: Buffer, at: Expr, weight: Buffer, row: Expr, acc: Buffer) -> None:
        """Adds the products of one word, whose weights for a block begin at ``row``.

        The last inputs of a word may lie behind the end, where weights are zero.
        """
        lanes, isa, dtype = self.lanes, self.isa, self.dtypes[0]
        cell = lanes * isa.partials
        own, flip = read_as(INT32, 1, load(x, at * self.word, self.word)), flip_word(isa, dtype)
        if flip:
            own = own ^ tir.int32(flip)
        pixels = let(splat(own, lanes, INT32))
        for v in range(self.vectors):
            pair = (pixels, load(weight, row + v * lanes, lanes))
            before = load(acc, v * cell, cell)
            store(acc, v * cell, isa.dot(before, [pair], lanes, isa.operand(dtype)), cell)

    def _finish(self, buffers: dict[str, Buffer], total: Expr, block: Expr, v: int) -> None:
        """Stores one vector of results."""
        lanes, y = self.lanes, buffers["y"]
        at = let(block * self.block + v * lanes)
        summed = total + load(buffers["bias"], at, lanes)
        value = apart(wide(summed, lanes, FLOAT32) * load(buffers["factor"], at, lanes), lanes)
        if self.dtypes[1] == FLOAT32:
            value = let(clamped(value, self.clamp, lanes))
        else:
            value = let(wide(code(self.isa, value, self.clamp, lanes), lanes, self.dtypes[1]))
        left = self.outputs - (self.blocks - 1) * self.block - v * lanes
        if left >= lanes:
            store(y, at, value, lanes)
        elif self.blocks == 1:
            tir.store_part(y, at, value, lanes, max(left, 0))
        else:
            with when(block < self.blocks - 1):
                store(y, at, value, lanes)
            with when(block == self.blocks - 1):
                tir.store_part(y, at, value, lanes, max(left, 0))
