"""Kernels that move or combine whole planes: clearing, adding, clamping, joining."""

from __future__ import annotations

from dataclasses import dataclass

from headgate.compile.kernels import tir
from headgate.compile.kernels.convolution import Clamp
from headgate.compile.kernels.float.words import SAME, Dtypes, clamped, floats
from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.lists import list_parameters
from headgate.compile.kernels.tir import Buffer, Expr, let, load, loop, store

OPERANDS = ("a", "b")


@dataclass(frozen=True)
class ClearInactive(Kernel):
    """Zeros in the planes of inactive channels, for a consumer that reads all of them."""

    channels: int
    pixels: int
    lanes: int
    dtypes: Dtypes = SAME

    def parameters(self) -> list[Parameter]:
        return [*floats("y", dtypes=self.dtypes), *list_parameters("in")]

    def _body(self, y: Buffer, in_list: Buffer, in_count: Buffer) -> None:
        active = let(in_count[0])
        with loop(self.channels - active) as j:
            start = let(in_list[active + j] * self.pixels)
            tir.fill(y, start, 0.0, self.pixels, self.lanes, y.dtype)


@dataclass(frozen=True)
class Combine(Kernel):
    """``y = clamp(a + b)``, or ``clamp(a)`` with one operand, over all or the active planes."""

    channels: int
    pixels: int
    lanes: int
    operands: int
    gated: bool = False
    clamp: Clamp = (None, None)
    dtypes: Dtypes = SAME

    def parameters(self) -> list[Parameter]:
        lists = list_parameters("in") if self.gated else []
        return [*floats(*OPERANDS[: self.operands], "y", dtypes=self.dtypes), *lists]

    def _body(self, y: Buffer, **buffers: Buffer) -> None:
        def move(at: Expr, lanes: int) -> None:
            sources = (buffers[name] for name in OPERANDS[: self.operands])
            first, *others = (load(source, at, lanes) for source in sources)
            store(y, at, clamped(sum(others, first), self.clamp, lanes, y.dtype), lanes)

        def plane(start: Expr, size: int) -> None:
            whole = size // self.lanes
            if whole:
                with loop(whole) as i:
                    move(let(start + i * self.lanes), self.lanes)
            for i in range(whole * self.lanes, size):
                move(start + i, 1)

        if not self.gated:
            plane(0, self.channels * self.pixels)
            return
        with loop(let(buffers["in_count"][0])) as j:
            plane(let(buffers["in_list"][j] * self.pixels), self.pixels)


@dataclass(frozen=True)
class CopyPlanes(Kernel):
    """Copies one operand of a concatenation to its place in the result."""

    channels: int
    pixels: int
    lanes: int
    offset: int = 0
    """The result's channel where this operand begins."""
    gated: bool = False
    dtypes: Dtypes = SAME

    def parameters(self) -> list[Parameter]:
        lists = list_parameters("in") if self.gated else []
        return [*floats("x", "y", dtypes=self.dtypes), *lists]

    def _body(self, x: Buffer, y: Buffer, **lists: Buffer) -> None:
        base = self.offset * self.pixels
        if not self.gated:
            tir.copy(x, 0, y, base, self.channels * self.pixels, self.lanes)
            return
        with loop(let(lists["in_count"][0])) as j:
            start = let(lists["in_list"][j] * self.pixels)
            tir.copy(x, start, y, let(base + start), self.pixels, self.lanes)
