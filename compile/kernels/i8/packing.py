"""Preparing the pixels of an int8 convolution: four inputs of a pixel in one word.

The planes are interleaved while their rows are padded. Only active channels are read, and written
one after the other, so that what is multiplied is compact whatever the gate chose.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from headgate.compile.isa.vector import read_as
from headgate.compile.kernels import tir
from headgate.compile.kernels.convolution import ConvShape
from headgate.compile.kernels.i8.words import CODES_PER_WORD
from headgate.compile.kernels.tiling import Tiling
from headgate.compile.kernels.tir import (
    Buffer,
    Expr,
    fill,
    int32,
    let,
    load,
    loop,
    splat,
    store,
    when,
)
from headgate.device.tensor_type import INT32

MOST = 16
"""Pixels that are interleaved at once."""


def pad_words(
    shape: ConvShape,
    tiling: Tiling,
    source: Buffer,
    padded: Buffer,
    inputs: Expr,
    plane: Callable[[Expr], Expr],
    first_row: Expr,
    flip: int,
) -> None:
    """Copies the input rows that the output rows from ``first_row`` on need, as words.

    Args:
        shape: of the words.
        inputs: how many channels are read.
        plane: the channel at a position.
        flip: exclusive-or-ed to every word; also what lies outside the image.
    """
    pitch, rows = tiling.padded_pitch(shape), tiling.padded_rows(shape)
    top = first_row * shape.stride[0] - shape.padding[0]
    pixels = shape.height * shape.width

    def word(j: Expr, members: int) -> None:
        """Word ``j``, of which so many members are channels."""
        starts = planes_of(j, members, inputs, plane, pixels)
        with loop(rows) as r:
            row = let(top + r)
            into = let((j * rows + r) * pitch + shape.padding[1])
            inside = True
            if shape.padding[0] or shape.padding[2] or shape.out_height % tiling.chunk_rows:
                inside = tirx.all(row >= 0, row < shape.height)
                with when(tirx.Not(inside)):
                    fill(padded, into, flip, shape.width, tiling.lanes, INT32)
            with when(inside):
                here = [let(start + row * shape.width) for start in starts]
                interleave(source, here, padded, into, shape.width, flip)

    each_word(inputs, word)


def each_word(inputs: Expr, body: Callable[[Expr, int], None]) -> None:
    """``body(j, members)`` for every word of so many channels; 0 members: as many as there are."""
    if not isinstance(inputs, int):
        with loop(tir.T.floordiv(inputs + CODES_PER_WORD - 1, CODES_PER_WORD)) as j:
            body(j, 0)
        return
    whole, rest = divmod(inputs, CODES_PER_WORD)
    if whole:
        with loop(whole) as j:
            body(j, CODES_PER_WORD)
    if rest:
        body(whole, rest)


def planes_of(
    j: Expr, members: int, inputs: Expr, plane: Callable[[Expr], Expr], pixels: int
) -> list[Expr]:
    """Where the planes of word ``j`` begin.

    Of an unknown number of ``members`` the surplus ones of the last word repeat a channel; their
    weights are zero.
    """
    places = [j * CODES_PER_WORD + q for q in range(members or CODES_PER_WORD)]
    if not members:
        places = [tir.minimum(at, inputs - 1) for at in places]
    return [let(plane(at) * pixels) for at in places]


def interleave(
    source: Buffer, starts: list[Expr], target: Buffer, into: Expr, count: int, flip: int
) -> None:
    """``count`` (a constant) words of the numbers of up to four planes; others count as zero."""
    for at, lanes, times in runs(count):
        with loop(times) as i:
            move = let(at + i * lanes) if times > 1 else at
            value = interleaved(source, [start + move for start in starts], lanes, flip)
            store(target, into + move, value, lanes)


def runs(count: int) -> list[tuple[int, int, int]]:
    """(first, lanes, times): the last vector of a kind may overlap the one before."""
    lanes = MOST
    while lanes > count:
        lanes //= 2
    runs = [(0, lanes, count // lanes)]
    if count % lanes:
        runs.append((count - lanes, lanes, 1))
    return runs


def interleaved(source: Buffer, starts: list[Expr], lanes: int, flip: int) -> Expr:
    """The words of ``lanes`` pixels of up to four planes."""
    zero = splat(0, lanes, source.dtype)
    planes = [load(source, start, lanes) for start in starts]
    planes += [zero] * (CODES_PER_WORD - len(planes))
    places = [
        int32(lanes * (i % CODES_PER_WORD) + i // CODES_PER_WORD)
        for i in range(CODES_PER_WORD * lanes)
    ]
    words = read_as(INT32, lanes, tir.T.Shuffle(planes, places))
    return words ^ splat(flip, lanes, INT32) if flip else words
