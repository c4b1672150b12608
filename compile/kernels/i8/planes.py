"""Kernels that move or combine whole planes of int8: to and from float32, sums, joins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from headgate.compile.isa.base import DotIsa
from headgate.compile.kernels import tir
from headgate.compile.kernels.i8.words import Bounds, apart, code, load_codes, store_codes
from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.lists import list_parameters
from headgate.compile.kernels.tir import Buffer, Expr, fill, let, load, loop, splat, store
from headgate.device.tensor_type import FLOAT32

OPERANDS = ("a", "b")


def _each_vector(size: int, lanes: int, move: Callable[[Expr, int], None]) -> None:
    """``move(at, lanes)`` for all of ``size`` numbers, the last ones one by one."""
    whole = size // lanes
    if whole:
        with loop(whole) as i:
            move(let(i * lanes), lanes)
    for at in range(whole * lanes, size):
        move(at, 1)


@dataclass(frozen=True)
class Quantize(Kernel):
    """The codes nearest to numbers: ``y = code(x * factor)``."""

    isa: DotIsa
    size: int
    dtypes: tuple[str, str]
    clamp: Bounds

    @classmethod
    def of(cls, isa: DotIsa, *_: Any, **asked: Any) -> Quantize:
        return cls(isa, **asked)

    def parameters(self) -> list[Parameter]:
        return [("x", FLOAT32), ("factor", FLOAT32), ("y", self.dtypes[1])]

    def constants(self, attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {"factor": np.array([attributes["factor"]], np.float32)}

    def _body(self, x: Buffer, factor: Buffer, y: Buffer) -> None:
        def move(at: Expr, lanes: int) -> None:
            value = load(x, at, lanes) * splat(factor[0], lanes, FLOAT32)
            store_codes(y, at, code(self.isa, value, self.clamp, lanes), lanes)

        _each_vector(self.size, self.isa.lanes, move)


@dataclass(frozen=True)
class Dequantize(Kernel):
    """The numbers that codes stand for: ``y = x * factor``."""

    isa: DotIsa
    size: int
    dtypes: tuple[str, str]

    @classmethod
    def of(cls, isa: DotIsa, *_: Any, **asked: Any) -> Dequantize:
        return cls(isa, **asked)

    def parameters(self) -> list[Parameter]:
        return [("x", self.dtypes[0]), ("factor", FLOAT32), ("y", FLOAT32)]

    def constants(self, attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {"factor": np.array([attributes["factor"]], np.float32)}

    def _body(self, x: Buffer, factor: Buffer, y: Buffer) -> None:
        def move(at: Expr, lanes: int) -> None:
            value = load_codes(x, at, lanes, FLOAT32) * splat(factor[0], lanes, FLOAT32)
            store(y, at, value, lanes)

        _each_vector(self.size, self.isa.lanes, move)


@dataclass(frozen=True)
class ClearInactive(Kernel):
    """Zeros in the planes of inactive channels, for a consumer that reads all of them."""

    isa: DotIsa
    channels: int
    pixels: int
    dtypes: tuple[str, ...]

    @classmethod
    def of(cls, isa: DotIsa, *_: Any, **asked: Any) -> ClearInactive:
        return cls(isa, **asked)

    def parameters(self) -> list[Parameter]:
        return [("y", self.dtypes[0]), *list_parameters("in")]

    def _body(self, y: Buffer, in_list: Buffer, in_count: Buffer) -> None:
        active = let(in_count[0])
        with loop(self.channels - active) as j:
            start = let(in_list[active + j] * self.pixels)
            fill(y, start, 0, self.pixels, 4 * self.isa.lanes, y.dtype)


@dataclass(frozen=True)
class Combine(Kernel):
    """``y = code(a * factors[0] + b * factors[1])``, or of one operand; all or active planes."""

    isa: DotIsa
    channels: int
    pixels: int
    operands: int
    dtypes: tuple[str, ...]
    """Of the operands, then of the result."""
    clamp: Bounds
    gated: bool = False

    @classmethod
    def of(cls, isa: DotIsa, *_: Any, **asked: Any) -> Combine:
        return cls(isa, **asked)

    def parameters(self) -> list[Parameter]:
        lists = list_parameters("in") if self.gated else []
        names = (*OPERANDS[: self.operands], "y")
        operands = list(zip(names, self.dtypes, strict=True))
        return [*operands, ("factors", FLOAT32), *lists]

    def constants(self, attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {"factors": np.array(attributes["factors"], np.float32)}

    def _body(self, y: Buffer, factors: Buffer, **buffers: Buffer) -> None:
        sources = [buffers[name] for name in OPERANDS[: self.operands]]

        def move(start: Expr) -> Callable[[Expr, int], None]:
            def one(at: Expr, lanes: int) -> None:
                terms = [
                    apart(
                        load_codes(source, start + at, lanes, FLOAT32)
                        * splat(factors[i], lanes, FLOAT32),
                        lanes,
                    )
                    for i, source in enumerate(sources)
                ]
                value = code(self.isa, sum(terms[1:], terms[0]), self.clamp, lanes)
                store_codes(y, start + at, value, lanes)

            return one

        if not self.gated:
            _each_vector(self.channels * self.pixels, self.isa.lanes, move(0))
            return
        with loop(let(buffers["in_count"][0])) as j:
            start = let(buffers["in_list"][j] * self.pixels)
            _each_vector(self.pixels, self.isa.lanes, move(start))


@dataclass(frozen=True)
class CopyPlanes(Kernel):
    """Copies one operand of a concatenation to its place in the result."""

    isa: DotIsa
    channels: int
    pixels: int
    dtypes: tuple[str, ...]
    offset: int = 0
    """The result's channel where this operand begins."""
    gated: bool = False

    @classmethod
    def of(cls, isa: DotIsa, *_: Any, **asked: Any) -> CopyPlanes:
        return cls(isa, **asked)

    def parameters(self) -> list[Parameter]:
        lists = list_parameters("in") if self.gated else []
        return [*zip("xy", self.dtypes, strict=True), *lists]

    def _body(self, x: Buffer, y: Buffer, **lists: Buffer) -> None:
        base, lanes = self.offset * self.pixels, 4 * self.isa.lanes
        if not self.gated:
            tir.copy(x, 0, y, base, self.channels * self.pixels, lanes)
            return
        with loop(let(lists["in_count"][0])) as j:
            start = let(lists["in_list"][j] * self.pixels)
            tir.copy(x, start, y, let(base + start), self.pixels, lanes)
