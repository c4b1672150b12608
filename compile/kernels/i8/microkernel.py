"""The register tile of int8: dot products of words, requantisation, store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from headgate.compile.isa.base import DotIsa
from headgate.compile.isa.vector import picked, read_as
from headgate.compile.kernels import tir
from headgate.compile.kernels.conv_loops import Pixels, Place, masked
from headgate.compile.kernels.convolution import Epilogue
from headgate.compile.kernels.i8.words import CODES_PER_WORD, apart, code, wide
from headgate.compile.kernels.tir import Buffer, Expr, let, load, loop, splat, store, when
from headgate.device.tensor_type import FLOAT32, INT32

MAX_UNROLLED_TAPS = 9
"""With more, the rows of the kernel become a loop."""
TOGETHER_WORDS = 4
"""Words of one output that lie side by side where rows lie together."""


@dataclass(frozen=True)
class Weights:
    """Rows of words ``[output][tap][word]``; ``pitch``: words from one tap to the next.

    They are int32 where they are constants, bytes where they have been chosen. Where ``together``
    is more than one, so many rows lie ``[vector of words][tap][output]``, and what is loaded at
    once for a tap is in one place.
    """

    buffer: Buffer
    pitch: int
    kernel: tuple[int, int]
    together: int = 1

    def words(self, at: Expr, count: int) -> Expr:
        """A vector of ``count`` words from word ``at`` on."""
        if self.buffer.dtype == INT32:
            return load(self.buffer, at, count)
        return read_as(INT32, count, load(self.buffer, at * CODES_PER_WORD, count * CODES_PER_WORD))

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def size(self) -> int:
        """Words of one output."""
        return self.pitch * self.taps

    def row(self, index: Expr) -> Expr:
        """Where the weights of an output begin."""
        if self.together == 1:
            return index * self.size
        unit, own = tir.T.floordiv(index, self.together), tir.T.floormod(index, self.together)
        return unit * (self.together * self.size) + own * TOGETHER_WORDS

    def move(self, tap: Expr, word: Expr) -> Expr:
        """From there to a word of a tap, the first of a vector where rows lie together."""
        if self.together == 1:
            return tap * self.pitch + word
        return tap * (self.together * TOGETHER_WORDS) + word * (self.together * self.taps)


def accumulate(
    isa: DotIsa,
    acc: Buffer,
    rows: list[Expr],
    bases: list[Expr],
    lanes: int,
    words: Expr,
    weights: Weights,
    pixels: Pixels,
    dtype: str,
) -> None:
    """``acc[row][vector] += weights . pixels`` over the active words and all taps.

    ``rows`` are the offsets of the rows of weights, ``bases`` those of the vectors of pixels;
    ``dtype`` is that of the activations as they are multiplied.
    """
    cell = lanes * isa.partials
    height, width = weights.kernel
    whole = height * width <= MAX_UNROLLED_TAPS

    def taps(j: Expr, count: int) -> None:
        """Words ``j`` to ``j + count`` at all taps."""
        planes = [let(pixels.plane(j + q)) for q in range(count)]
        with loop(1 if whole else height) as r0:
            for r in range(height if whole else 1):
                for s in range(width):
                    move = weights.move((r0 + r) * width + s, j)
                    step([row + move for row in rows], [p + pixels.tap(r0 + r, s) for p in planes])

    def step(at: list[Expr], planes: list[Expr]) -> None:
        by_element = isa.weight_lanes > 1
        if by_element:
            loaded = [let(weights.words(one, isa.weight_lanes)) for one in at]
        for first in range(0, len(planes), isa.depth):
            some = range(first, min(first + isa.depth, len(planes)))
            vectors = [
                [let(load(pixels.buffer, base + planes[q], lanes)) for base in bases] for q in some
            ]
            for i, one in enumerate(at):
                factors = [
                    picked(loaded[i], [q] * lanes)
                    if by_element
                    else splat(weights.words(one + q, 1), lanes, INT32)
                    for q in some
                ]
                for v in range(len(bases)):
                    place = (i * len(bases) + v) * cell
                    pairs = [(vectors[k][v], factor) for k, factor in enumerate(factors)]
                    store(acc, place, isa.dot(load(acc, place, cell), pairs, lanes, dtype), cell)

    block = max(isa.weight_lanes, isa.depth)
    with loop(_quotient(words, block)) as index:
        taps(let(index * block), block)
    if block == 1:
        return
    if isinstance(words, int):
        if words % block:
            taps(words - words % block, words % block)
        return
    rest = let(tir.T.floormod(words, block))
    # One branch around all, lest LLVM computes their addresses where there is no rest.
    with when(rest > 0):
        for count in range(1, block):
            with when(rest == count):
                taps(let(words - count), count)


def _quotient(count: Expr, size: int) -> Expr:
    return count // size if isinstance(count, int) else tir.T.floordiv(count, size)


@dataclass(frozen=True)
class Finish:
    """From sums to codes: what an epilogue reads and writes; what it does not use is None.

    A result is ``factor x sum``, then ``+ shift`` behind a gate, then ``+ residual_factor x
    residual``, each rounded to float32, then the nearest code within the epilogue's ``clamp``.
    """

    isa: DotIsa
    epilogue: Epilogue
    residual_dtype: str
    result: Buffer
    bias: Buffer
    factor: Buffer
    gate: Buffer | None = None
    shift: Buffer | None = None
    residual: Buffer = None
    residual_factor: Buffer = None
    sums: Buffer | None = None

    @classmethod
    def of(
        cls, isa: DotIsa, epilogue: Epilogue, dtypes: Sequence[str], buffers: dict[str, Buffer]
    ) -> Finish:
        """Among a kernel's arguments by name; ``dtypes``: as :class:`ConvKernel` has them."""
        own = (buffers[name] for name in ("y", "bias", "factor"))
        extra = ("gate", "shift", "residual", "residual_factor", "sums")
        return cls(isa, epilogue, dtypes[-2], *own, *map(buffers.get, extra))

    def added(self, value: Expr, at: Expr, lanes: int) -> Expr:
        """``value`` and the residual at ``at``."""
        source = self.result if self.epilogue.residual == "in_place" else self.residual
        factor = splat(self.residual_factor[0], lanes, FLOAT32)
        # Where the result goes there lie codes of the residual, which may have the other sign.
        own = read_as(self.residual_dtype, lanes, load(source, at, lanes))
        other = apart(wide(own, lanes, FLOAT32) * factor, lanes)
        return other if value is None else value + other

    def code(self, value: Expr, lanes: int) -> Expr:
        """The code of a result, int32."""
        return code(self.isa, value, self.epilogue.clamp, lanes)

    def end(
        self,
        acc: Buffer,
        channels: list[Expr],
        plane: int,
        places: list[Place],
        lanes: int,
        biases: Sequence[Expr] | None = None,
    ) -> None:
        """Finishes and stores a tile.

        ``biases`` are added to the sums of each channel; None: the constants. Everything is read
        before anything is written: rows beyond the last active channel repeat it, and must find
        the residual and the sums as they were.
        """
        cell, epilogue = lanes * self.isa.partials, self.epilogue
        totals = []
        for i, channel in enumerate(channels):
            factor = self.factor[channel]
            if self.gate is not None:
                factor = factor * self.gate[channel]
            bias = self.bias[channel] if biases is None else biases[i]
            factor, bias = let(splat(let(factor), lanes, FLOAT32)), let(splat(bias, lanes, INT32))
            shift = None if self.shift is None else splat(self.shift[channel], lanes, FLOAT32)
            total: Expr = None
            for v, place in enumerate(places):
                at = (i * len(places) + v) * cell
                summed = self.isa.sums(load(acc, at, cell), lanes) + bias
                value = apart(wide(summed, lanes, FLOAT32) * factor, lanes)
                if shift is not None:
                    value = value + shift
                if epilogue.residual:
                    value = self.added(value, channel * plane + place.offset, lanes)
                value = let(self.code(value, lanes))
                store(acc, at, value, lanes)
                if epilogue.means:
                    counted = (
                        value if place.real is None else masked(value, place.real, lanes, INT32)
                    )
                    total = counted if total is None else total + counted
            if epilogue.means:
                totals.append(let(load(self.sums, channel * lanes, lanes) + total))
        for i, channel in enumerate(channels):
            if epilogue.means:
                store(self.sums, channel * lanes, totals[i], lanes)
        rows = []
        for i in range(len(channels)):
            codes = [load(acc, (i * len(places) + v) * cell, lanes) for v in range(len(places))]
            rows.append(let(self.isa.narrowed(codes, lanes, self.result.dtype)))
        for v, place in enumerate(places):
            values = [_part(row, v, len(places), lanes, self.result.dtype) for row in rows]
            starts = [let(channel * plane + place.offset) for channel in channels]
            store_vectors(self.result, values, starts, place, lanes)


def _part(codes: Expr, index: int, count: int, lanes: int, dtype: str) -> Expr:
    """One of ``count`` vectors that lie in one; moved as a word where it is no more than that.

    LLVM would widen four codes before it takes them from eight.
    """
    if count == 1:
        return codes
    if lanes == CODES_PER_WORD:
        return read_as(dtype, lanes, tir.element(read_as(INT32, count, codes), index))
    return picked(codes, range(index * lanes, (index + 1) * lanes))


def store_vectors(
    buffer: Buffer, values: list[Expr], starts: list[Expr], place: Place, lanes: int
) -> None:
    """Stores what several channels have at one place, behind one branch for all."""
    if place.partial is not None:
        with when(place.partial):
            for value, start in zip(values, starts, strict=True):
                tir.store_part(buffer, start, value, lanes, place.valid)
    with when(True if place.partial is None else tirx.Not(place.partial)):
        for value, start in zip(values, starts, strict=True):
            store(buffer, start, value, lanes)


def zero(acc: Buffer, size: int, lanes: int) -> None:
    """Sums begin at zero; the bias is added at the end, once for all that :meth:`dot` keeps."""
    for at in range(0, size, lanes):
        store(acc, at, tirx.Broadcast(tirx.IntImm(INT32, 0), lanes), lanes)
