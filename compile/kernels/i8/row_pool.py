"""Max pooling by vectors of a row: first the rows of a window meet, then what is left side by side.

No plane is copied. The nearest row inside stands for a row outside the plane: every window that
has the one has the other. The maxima of a row's columns are kept, with the border on both sides.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from headgate.compile.isa.base import DotIsa
from headgate.compile.kernels import tir
from headgate.compile.kernels.convolution import ConvShape
from headgate.compile.kernels.i8 import window
from headgate.compile.kernels.i8.words import BOUNDS, Bounds
from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.compile.kernels.lists import list_parameters, visited
from headgate.compile.kernels.tir import Buffer, Expr, int32, let
from headgate.device.tensor_type import TensorType

LARGEST = 4
"""Rows and columns of a window, whose maxima are written out."""


@dataclass(frozen=True)
class MaxPool(Kernel):
    """Max pooling; inactive channels of a gated input are neither read nor written.

    ``shape`` has as many groups as channels. What instruction sets differ in is below.
    """

    codes: ClassVar[int]
    """How many codes a vector has."""
    narrow: ClassVar[bool] = False
    """Whether the kernel serves rows that are shorter than a vector: it reads a vector that ends
    behind its row, and stores the first results of it."""

    shape: ConvShape
    dtype: str
    clamp: Bounds
    gated: bool

    @classmethod
    def of(
        cls,
        isa: DotIsa,
        *_: Any,
        shape: ConvShape,
        kind: str,
        dtypes: tuple[str, str],
        **asked: Any,
    ) -> Kernel:
        """This kernel, or that of any instructions for averages and where rows are too short."""
        kernel = cls(shape, dtypes[0], **asked)
        if kind == "max" and dtypes[0] == dtypes[1] and kernel._fits:
            return kernel
        return window.Pool.of(isa, shape=shape, kind=kind, dtypes=dtypes, **asked)

    @property
    def _fits(self) -> bool:
        shape = self.shape
        small = max(shape.kernel) <= LARGEST and shape.stride[1] <= 2
        # A window that has a row outside the plane has the nearest one inside, too.
        near = shape.dilation == (1, 1) and self._least_row > -shape.kernel[0]
        near = near and self._greatest_row < shape.height - 1 + shape.kernel[0]
        long = shape.width >= self.codes and shape.out_width >= self.results
        return small and near and (long or (self.narrow and self.apart))

    @property
    def results(self) -> int:
        """How many results a vector of maxima has: all, or with a stride every second."""
        return self.codes // self.shape.stride[1]

    @property
    def _least_row(self) -> int:
        return -self.shape.padding[0]

    @property
    def _greatest_row(self) -> int:
        shape = self.shape
        return self._least_row + (shape.out_height - 1) * shape.stride[0] + shape.kernel[0] - 1

    @property
    def apart(self) -> bool:
        """Whether windows are pairs of columns, side by side and inside the row."""
        shape = self.shape
        inside = shape.padding[1] == 0 and 2 * shape.out_width <= shape.width
        return shape.stride[1] == shape.kernel[1] == 2 and inside

    @property
    def _kept(self) -> int:
        """Codes of a row of maxima with its border, and what vectors read behind it."""
        shape = self.shape
        last = (shape.out_width - 1) * shape.stride[1] + shape.kernel[1] - 1
        return max(last, shape.padding[1] + shape.width) + self.codes

    def parameters(self) -> list[Parameter]:
        own = [("x", self.dtype), ("y", self.dtype)]
        own += [(name, tensor.dtype) for name, tensor in self.scratch().items()]
        return [*own, *(list_parameters("in") if self.gated else [])]

    def scratch(self) -> dict[str, TensorType]:
        return {} if self.apart else {"maxima": TensorType((self._kept,), self.dtype)}

    def _body(self, x: Buffer, y: Buffer, maxima: Buffer = None, **lists: Buffer) -> None:
        shape = self.shape
        count, nth = visited(shape.in_channels, *lists.values())
        with self._instructions():
            if not self.apart:
                with self._turns(self._kept) as i:
                    tir.store(maxima, i, tir.splat(BOUNDS[self.dtype][0], 1, self.dtype))
            with self._turns(count) as j:
                channel = let(nth(j))
                plane = let(channel * (shape.height * shape.width))
                into = let(channel * shape.pixels)
                with self._turns(shape.out_height) as row:
                    self._row(x, y, maxima, plane, row, let(into + row * shape.out_width))

    def _row(
        self, x: Buffer, y: Buffer, maxima: Buffer, plane: Expr, row: Expr, into: Expr
    ) -> None:
        """The results of a row, which go to ``into`` on."""
        shape = self.shape
        (down, across), left = shape.stride, shape.padding[1]
        top = let(row * down + self._least_row)
        rows = [let(plane + self._inside(top + r) * shape.width) for r in range(shape.kernel[0])]

        def column(at: Expr) -> Expr:
            return self._largest([self._load(x, start + at) for start in rows])

        def put(first: Expr, value: Expr) -> None:
            self._store(y, let(into + first), self._clamped(value), across, shape.out_width)

        if self.apart:

            def two(first: Expr) -> None:
                found = column(let(first * across))
                put(first, self._largest([found, self._moved(found)]))

            return self._each(min(self.results, shape.out_width), shape.out_width, two)
        self._each(
            self.codes,
            shape.width,
            lambda at: self._store(maxima, let(at + left), column(at), 1, self.codes),
        )

        def side_by_side(first: Expr) -> None:
            at = let(first * across)
            columns = range(shape.kernel[1])
            put(first, self._largest([self._load(maxima, at + s) for s in columns]))

        return self._each(self.results, shape.out_width, side_by_side)

    def _each(self, step: int, size: int, body: Callable[[Expr], None]) -> None:
        """``body`` for each ``step`` of a row; the last ones overlap where it is no multiple."""
        with self._turns(size // step) as i:
            body(let(i * step))
        if size % step:
            body(int32(size - step))

    def _inside(self, row: Expr) -> Expr:
        """The row of the plane nearest to ``row``."""
        if self._least_row < 0:
            row = tir.maximum(row, int32(0))
        if self._greatest_row >= self.shape.height:
            row = tir.minimum(row, int32(self.shape.height - 1))
        return let(row)

    def _largest(self, values: list[Expr]) -> Expr:
        found = values[0]
        for value in values[1:]:
            found = self._larger(found, value)
        return found

    def _clamped(self, value: Expr) -> Expr:
        (low, high), (least, greatest) = self.clamp, BOUNDS[self.dtype]
        if low > least:
            value = self._larger(value, self._filled(int(low)))
        if high < greatest:
            value = self._smaller(value, self._filled(int(high)))
        return value

    # What instruction sets say in their own words

    @abstractmethod
    def _instructions(self) -> Any:
        """A context in which the words below may be used."""

    @abstractmethod
    def _turns(self, extent: Expr) -> Any:
        """A loop that stays as short as it is written."""

    @abstractmethod
    def _load(self, buffer: Buffer, at: Expr) -> Expr:
        """A vector of codes, which need not be aligned."""

    @abstractmethod
    def _filled(self, code: int) -> Expr:
        """A vector of one code."""

    @abstractmethod
    def _larger(self, left: Expr, right: Expr) -> Expr: ...

    @abstractmethod
    def _smaller(self, left: Expr, right: Expr) -> Expr: ...

    @abstractmethod
    def _moved(self, value: Expr) -> Expr:
        """A vector with its codes of odd places in the places before them."""

    @abstractmethod
    def _store(self, buffer: Buffer, at: Expr, value: Expr, every: int, most: int) -> None:
        """Stores all codes of a vector, or every second one, side by side.

        Where ``most`` is less than that, which is so for :attr:`narrow` kernels only: the first.
        """
