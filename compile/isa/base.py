"""What a schedule knows of the instructions that it is written for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tvm import tirx

from headgate.compile.isa.vector import joined, named, splat
from headgate.device.tensor_type import FLOAT32, TensorType

Expr = Any
"""A vector in TIR."""
Pair = tuple[Expr, Expr]
"""Vectors of words that are multiplied: activations and weights, int32 each."""


@dataclass(frozen=True)
class Isa:
    """The vector instructions for numbers of one dtype, as one core runs them."""

    name: str
    dtype: str
    mac_cycles: Mapping[int, float] = field(hash=False)
    """Cycles that a multiply-accumulate of so many lanes occupies, by the widths worth trying."""
    load_cycles: Mapping[int, float] = field(hash=False)
    """The same of a load."""
    cache_bytes: int
    """The second-level cache."""
    weight_lanes: int = 1
    """How many weights of one row are loaded at once and used by element; 1: broadcast."""
    narrowest: int = 4
    """Lanes of the narrowest vector there is."""

    fuses_means: ClassVar[bool] = True
    """Whether a convolution sums up channels while it stores them; else they are read again."""

    @property
    def grain(self) -> int:
        """Numbers that are multiplied together and cannot be skipped apart."""
        return 1

    @property
    def tile_vectors(self) -> tuple[int, ...]:
        """How many vectors of pixels a register tile may have.

        Where weights are broadcast from memory, one: the instruction that multiplies also loads.
        With more, LLVM loads the weights of all taps first and spills them, at half the speed.
        Where they are used by element, two fill the registers of NEON.
        """
        return (1,) if self.weight_lanes == 1 else (1, 2)

    @property
    def lanes(self) -> int:
        """Lanes of the widest vector."""
        return max(self.mac_cycles)

    @property
    def item_bytes(self) -> int:
        """Bytes of one number."""
        return TensorType((), self.dtype).item_bytes

    def lanes_within(self, length: int) -> int:
        """The widest vector that ``length`` numbers fill, or the narrowest there is."""
        widths = sorted({*self.mac_cycles, self.narrowest}, reverse=True)
        return next((lanes for lanes in widths if lanes <= length), widths[-1])

    def lanes_over(self, length: int) -> int:
        """The narrowest vector that holds ``length`` numbers, or the widest there is."""
        widths = sorted({*self.mac_cycles, self.narrowest})
        return next((lanes for lanes in widths if lanes >= length), widths[-1])


class DotIsa(Isa, ABC):
    """Instructions for int8, which work on *words*: four numbers in the 32 bits of a lane.

    A word holds four inputs of one pixel, or the weights that those meet in one output.
    """

    rows: ClassVar[int] = 8
    """Output channels of a register tile."""
    registers: ClassVar[int] = 32
    """Vectors that the core has registers for."""
    partials: ClassVar[int] = 1
    """Sums that :meth:`dot` keeps for each lane."""
    depth: ClassVar[int] = 1
    """Pairs of words that one :meth:`dot` takes best."""
    compresses: ClassVar[bool] = False
    """Whether it has :meth:`compress`."""
    gathers: ClassVar[bool] = False
    """Whether chosen bytes are taken one by one; the others have :meth:`permute`."""
    tables: ClassVar[tuple[int, ...]] = ()
    """Sizes in bytes, ascending, of what :meth:`permute` chooses among."""
    choices: ClassVar[int]
    """The bytes that :meth:`permute` chooses, or :meth:`compress` takes."""

    @property
    def item_bytes(self) -> int:
        """Bytes of one word."""
        return 4

    @property
    def grain(self) -> int:
        return 4

    def operand(self, dtype: str) -> str:
        """The dtype, uint8 or int8, as which activations of ``dtype`` meet weights."""
        return dtype

    @abstractmethod
    def dot(self, total: Expr, pairs: Sequence[Pair], lanes: int, dtype: str) -> Expr:
        """``total`` (int32, lanes x partials) and the products of all pairs.

        Activations are numbers of ``dtype``, weights int8 within -127..127.
        """

    def sums(self, total: Expr, lanes: int) -> Expr:
        """The sums (int32, lanes) of what :meth:`dot` has kept."""
        return total

    def permute(self, table: Expr, choice: Expr, size: int) -> Expr:
        """Bytes of ``table`` as ``choice`` says, zero where that is 255.

        Args:
            table: int32 vector of ``size`` bytes, one of ``tables``.
            choice: uint8 vector of ``choices`` bytes; so is the result.
        """
        raise NotImplementedError

    def compress(self, table: Expr, mask: Expr) -> Expr:
        """The bytes of ``table`` where ``mask`` is not zero, side by side, and zeros behind them.

        Args:
            table: uint8 vector of ``choices`` bytes; so are ``mask`` and the result.
        """
        raise NotImplementedError

    def narrowed(self, codes: Sequence[Expr], lanes: int, dtype: str) -> Expr:
        """Vectors of codes (int32, lanes) as one vector of ``dtype``, which has room for them."""
        return tirx.Cast(named(dtype, lanes * len(codes)), joined(codes, lanes))

    def code(self, value: Expr, least: int, greatest: int, lanes: int) -> Expr:
        """float32 to the nearest int32 within bounds, ties to even."""
        low, high = (splat(float(bound), lanes, FLOAT32) for bound in (least, greatest))
        return self.rounded(tirx.Min(tirx.Max(value, low), high), lanes)

    @abstractmethod
    def rounded(self, value: Expr, lanes: int) -> Expr:
        """float32 to the nearest int32, ties to even."""
