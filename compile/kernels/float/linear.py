"""A fully connected layer, vectorised over outputs, that reads weights of active inputs only.

The weights are packed once, when compiling, as ``[block of outputs][input][outputs of the block]``,
so that they are read in order whatever the gate chose. An input channel that was flattened with its
pixels is a run of inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from headgate.compile.isa import Isa
from headgate.compile.kernels import tir
from headgate.compile.kernels.convolution import Clamp
from headgate.compile.kernels.float.words import (
    SAME,
    Dtypes,
    clamped,
    floats,
    local,
    narrow,
    read,
    splat,
)
from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.lists import list_parameters
from headgate.compile.kernels.split import PART, share
from headgate.compile.kernels.tir import Buffer, Expr, let, load, loop, store
from headgate.device.tensor_type import FLOAT32

MAX_VECTORS = 4
"""Vectors of outputs side by side: as many chains of additions as hide their latency.

Of float16, which is summed in float32, half as many: they are twice as wide."""
UNROLL = 4


@dataclass(frozen=True)
class Linear(Kernel):
    """``y = clamp(weight @ x + bias)`` for one vector ``x``.

    ``run`` inputs belong to each channel of a gated input.
    """

    inputs: int
    outputs: int
    lanes: int
    gated: bool = False
    run: int = 1
    clamp: Clamp = (None, None)
    dtypes: Dtypes = SAME

    @classmethod
    def of(cls, isa: Isa, *, outputs: int, **asked: Any) -> Linear:
        return cls(outputs=outputs, lanes=isa.lanes_over(outputs), **asked)

    @property
    def vectors(self) -> int:
        most = MAX_VECTORS if self.dtypes[0] == FLOAT32 else MAX_VECTORS // 2
        return min(most, -(-self.outputs // self.lanes))

    @property
    def block(self) -> int:
        """Outputs in a block of packed weights."""
        return self.vectors * self.lanes

    @property
    def blocks(self) -> int:
        return -(-self.outputs // self.block)

    def pack(self, weight: np.ndarray) -> np.ndarray:
        """Weights (outputs, inputs) in the kernel's order, outputs padded with zeros."""
        padded = np.zeros((self.blocks * self.block, self.inputs), self.dtypes[0])
        padded[: self.outputs] = weight
        blocks = padded.reshape(self.blocks, self.block, self.inputs)
        return np.ascontiguousarray(blocks.transpose(0, 2, 1))

    def constants(self, attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {"weight": self.pack(attributes["weight"]), "bias": self.pad(attributes["bias"])}

    def pad(self, bias: np.ndarray) -> np.ndarray:
        """Biases (outputs,) of whole blocks, padded with zeros."""
        return np.pad(bias, (0, self.blocks * self.block - self.outputs))

    def parameters(self) -> list[Parameter]:
        lists = list_parameters("in") if self.gated else []
        return [*floats("x", "weight", "bias", "y", dtypes=self.dtypes), *lists, PART]

    def _body(
        self, x: Buffer, weight: Buffer, bias: Buffer, y: Buffer, part: Buffer, **lists: Buffer
    ) -> None:
        lanes, vectors = self.lanes, self.vectors
        size = vectors * lanes
        first, end = share(self.blocks, 1, part) if self.blocks > 1 else (0, 1)
        with loop(end - first) as index:
            block = first + index
            acc = local(UNROLL * size)
            for v in range(UNROLL * vectors):
                store(acc, v * lanes, splat(0, lanes), lanes)

            def add(k: Expr, chain: int, block: Expr = block, acc: Buffer = acc) -> None:
                factor = let(splat(read(x, k), lanes))
                row = let((block * self.inputs + k) * self.block)
                for v in range(vectors):
                    at = chain * size + v * lanes
                    value = load(acc, at, lanes) + factor * read(weight, row + v * lanes, lanes)
                    store(acc, at, value, lanes)

            def run(first: Expr, length: int, add=add) -> None:
                with loop(length // UNROLL) if length >= UNROLL else loop(1) as chunk:
                    for q in range(UNROLL if length >= UNROLL else 0):
                        add(first + chunk * UNROLL + q, q)
                for q in range(length - length % UNROLL, length):
                    add(first + q, q % UNROLL)

            if self.gated:
                with loop(let(lists["in_count"][0])) as j:
                    run(let(lists["in_list"][j] * self.run), self.run)
            else:
                run(0, self.inputs)
            for v in range(vectors):
                total = load(acc, v * lanes, lanes)
                for chain in range(1, UNROLL):
                    total = total + load(acc, chain * size + v * lanes, lanes)
                at = let(block * self.block + v * lanes)
                wide = tir.T.ramp(at, 1, lanes)
                value = clamped(total + bias[wide], self.clamp, lanes)
                value = let(narrow(value, lanes, y.dtype))
                left = self.outputs - (self.blocks - 1) * self.block - v * lanes
                if left >= lanes:
                    store(y, at, value, lanes)
                elif self.blocks == 1:
                    tir.store_part(y, at, value, lanes, max(left, 0))
                else:
                    with tir.when(block < self.blocks - 1):
                        store(y, at, value, lanes)
                    with tir.when(block == self.blocks - 1):
                        tir.store_part(y, at, value, lanes, max(left, 0))
