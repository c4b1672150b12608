"""Kernels that go along a row in order: running sums, and sorting."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from headgate.compile.kernels import tir
from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.tir import Buffer, Expr, T, let, local, loop
from headgate.device.tensor_type import INT32, TensorType

PLACES = "int64"
"""PyTorch's type of the places of numbers in a row."""


@dataclass(frozen=True)
class Scan(Kernel):
    """``y[i] = x[0] + ... + x[i]`` (or times) of ``size`` numbers that lie ``inner`` apart."""

    outer: int
    size: int
    inner: int
    function: str
    dtype: str

    def parameters(self) -> list[Parameter]:
        return [("x", self.dtype), ("y", self.dtype)]

    def _body(self, x: Buffer, y: Buffer) -> None:
        with loop(self.outer) as o, loop(self.inner) as i:
            start = let(o * (self.size * self.inner) + i)
            T.buffer_store(y, x[start], [start])
            with T.serial(1, self.size) as k:
                at = let(start + k * self.inner)
                before, here = y[at - self.inner], x[at]
                value = before * here if self.function == "mul" else before + here
                T.buffer_store(y, value, [at])


@dataclass(frozen=True)
class Sort(Kernel):
    """The places of a row's numbers in order: merge sort, so equal ones stay in their order."""

    rows: int
    size: int
    descending: bool
    dtype: str

    def parameters(self) -> list[Parameter]:
        return [("x", self.dtype), ("y", PLACES), ("scratch", PLACES)]

    def scratch(self) -> dict[str, TensorType]:
        return {"scratch": TensorType((self.size,), PLACES)}

    def _body(self, x: Buffer, y: Buffer, scratch: Buffer) -> None:
        with loop(self.rows) as row:
            base = let(row * self.size)
            with loop(self.size) as i:
                T.buffer_store(y, tirx.Cast(PLACES, i), [base + i])
            width = 1
            while width < self.size:
                self._merge_all(x, y, scratch, base, width)
                width *= 2

    def _merge_all(self, x: Buffer, y: Buffer, scratch: Buffer, base: Expr, width: int) -> None:
        """Merges neighbouring runs of ``width`` sorted numbers."""
        with loop(self.size) as i:
            T.buffer_store(scratch, y[base + i], [i])
        with loop(-(-self.size // (2 * width))) as pair:
            low = let(pair * (2 * width))
            middle = let(tir.minimum(low + width, self.size))
            high = let(tir.minimum(low + 2 * width, self.size))
            left, right = local(1, INT32), local(1, INT32)
            T.buffer_store(left, low, [0])
            T.buffer_store(right, middle, [0])
            with loop(high - low) as k:
                # Clamped: one of the two may be behind its run, and is not taken then.
                a = let(scratch[tir.minimum(left[0], self.size - 1)])
                b = let(scratch[tir.minimum(right[0], self.size - 1)])
                first, second = x[tirx.Cast(INT32, a) + base], x[tirx.Cast(INT32, b) + base]
                in_order = first >= second if self.descending else first <= second
                take_left = let(tirx.all(left[0] < middle, tirx.any(right[0] >= high, in_order)))
                T.buffer_store(y, tirx.Select(take_left, a, b), [base + low + k])
                step = tirx.Cast(INT32, take_left)
                T.buffer_store(left, left[0] + step, [0])
                T.buffer_store(right, right[0] + (1 - step), [0])
