"""Kernels that move or combine whole planes: clearing, adding, clamping, joining."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.tirx import PrimFunc

from headgate.compile.kernels import tir
from headgate.compile.kernels.microkernel import Epilogue
from headgate.compile.kernels.tir import Buffer, Expr, let, load, loop, store


@dataclass(frozen=True)
class ClearInactive:
    """Zeros in the planes of inactive channels, for a consumer that reads all of them."""

    channels: int
    pixels: int
    lanes: int

    def parameters(self) -> list[tuple[str, str]]:
        return [("y", "float32"), ("in_list", "int32"), ("in_count", "int32")]

    def build(self, name: str) -> PrimFunc:
        return tir.prim_func(name, self.parameters(), self._body)

    def _body(self, y: Buffer, in_list: Buffer, in_count: Buffer) -> None:
        active = let(in_count[0])
        with loop(self.channels - active) as j:
            tir.fill(y, let(in_list[active + j] * self.pixels), 0.0, self.pixels, self.lanes)


@dataclass(frozen=True)
class Combine:
    """``y = clamp(a + b)``, or ``clamp(a)`` with one operand, over all or the active planes."""

    channels: int
    pixels: int
    lanes: int
    operands: int
    gated: bool = False
    clamp: tuple[float | None, float | None] = (None, None)

    def parameters(self) -> list[tuple[str, str]]:
        names = [(n, "float32") for n in ("a", "b")[: self.operands]] + [("y", "float32")]
        return names + ([("in_list", "int32"), ("in_count", "int32")] if self.gated else [])

    def build(self, name: str) -> PrimFunc:
        return tir.prim_func(name, self.parameters(), self._body)

    def _body(self, *buffers: Buffer) -> None:
        sources, y, lists = (
            buffers[: self.operands],
            buffers[self.operands],
            buffers[self.operands + 1 :],
        )

        def move(at: Expr, lanes: int) -> None:
            value = load(sources[0], at, lanes)
            for source in sources[1:]:
                value = value + load(source, at, lanes)
            store(y, at, Epilogue(clamp=self.clamp).clamped(value, lanes), lanes)

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
        with loop(let(lists[1][0])) as j:
            plane(let(lists[0][j] * self.pixels), self.pixels)


@dataclass(frozen=True)
class CopyPlanes:
    """Copies one operand of a concatenation to its place in the result."""

    channels: int
    pixels: int
    lanes: int
    offset: int
    """The result's channel where this operand begins."""
    gated: bool = False

    def parameters(self) -> list[tuple[str, str]]:
        lists = [("in_list", "int32"), ("in_count", "int32")] if self.gated else []
        return [("x", "float32"), ("y", "float32"), *lists]

    def build(self, name: str) -> PrimFunc:
        return tir.prim_func(name, self.parameters(), self._body)

    def _body(self, x: Buffer, y: Buffer, *lists: Buffer) -> None:
        base = self.offset * self.pixels
        if not self.gated:
            tir.copy(x, 0, y, base, self.channels * self.pixels, self.lanes)
            return
        with loop(let(lists[1][0])) as j:
            start = let(lists[0][j] * self.pixels)
            tir.copy(x, start, y, let(base + start), self.pixels, self.lanes)
