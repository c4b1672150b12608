"""Preparing the pixels of a convolution: padded rows, and from them columns.

Both read only the input channels that are active and write them one after the other, so that the
multiplication that follows sees a compact input whatever the gate chose.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from headgate.compile.kernels import tir
from headgate.compile.kernels.convolution import ConvShape
from headgate.compile.kernels.tiling import Tiling
from headgate.compile.kernels.tir import Buffer, Expr, fill, let, load, loop, splat, store, when


def clear_border(
    shape: ConvShape, tiling: Tiling, padded: Buffer, inputs: Expr, border: float = 0.0
) -> None:
    """Sets what lies left and right of the rows, once: copying rows never touches it."""
    pitch, rows = tiling.padded_pitch(shape), tiling.padded_rows(shape)
    left = shape.padding[1]
    right = pitch - left - shape.width
    if left == 0 and right == 0:
        return
    with loop(inputs) as j, loop(rows) as r:
        start = (j * rows + r) * pitch
        for i in range(left):
            store(padded, start + i, splat(border, 1, padded.dtype))
        for i in range(right):
            store(padded, start + left + shape.width + i, splat(border, 1, padded.dtype))


def pad_rows(
    shape: ConvShape,
    tiling: Tiling,
    source: Buffer,
    padded: Buffer,
    inputs: Expr,
    plane: Callable[[Expr], Expr],
    first_row: Expr,
    border: float = 0.0,
) -> None:
    """Copies the input rows that the output rows from ``first_row`` on need.

    ``plane(j)`` is the input channel of the j-th active one; rows outside the image become
    ``border``.
    """
    pitch, rows = tiling.padded_pitch(shape), tiling.padded_rows(shape)
    top = first_row * shape.stride[0] - shape.padding[0]
    with loop(inputs) as j:
        channel = let(plane(j) * (shape.height * shape.width))
        with loop(rows) as r:
            row = let(top + r)
            into = let((j * rows + r) * pitch + shape.padding[1])
            inside = True
            if shape.padding[0] or shape.padding[2] or shape.out_height % tiling.chunk_rows:
                inside = tir.tirx.all(row >= 0, row < shape.height)
                with when(tir.tirx.Not(inside)):
                    fill(padded, into, border, shape.width, tiling.lanes, padded.dtype)
            with when(inside):
                start = let(channel + row * shape.width)
                tir.copy(source, start, padded, into, shape.width, tiling.lanes)


def gather_columns(
    shape: ConvShape,
    tiling: Tiling,
    scratch: Buffer,
    start: int,
    inputs: Expr,
    chunk_rows: int,
) -> None:
    """Lines up the pixels of every tap: ``columns[vector][input * taps + tap][lane]``.

    The padded rows lie at the front of ``scratch``, the columns go to ``start``.

    A vector whose pixels span several output rows is written in pieces, each a whole vector whose
    tail the next piece overwrites. The tail of the last piece runs into the next line, which is
    written afterwards; that is why lines are written in order.
    """
    lanes, width = tiling.lanes, shape.out_width
    pitch, rows = tiling.padded_pitch(shape), tiling.padded_rows(shape)
    depth = shape.group_in * shape.taps
    taps = [(r, s) for r in range(shape.kernel[0]) for s in range(shape.kernel[1])]
    pieces = 1 if width % lanes == 0 else ceil((lanes - 1) / width) + 1
    vectors = tiling.chunk_vectors(shape, chunk_rows)
    with loop(vectors) as u:
        y = let(tir.T.floordiv(u * lanes, width))
        x = let(u * lanes - y * width)
        # Where piece q starts, in the vector and in the padded rows.
        lane_at = [0] + [let(width - x + (q - 1) * width) for q in range(1, pieces)]
        pixel_at = [
            let(((y + q) * shape.stride[0]) * pitch + (x * shape.stride[1] if q == 0 else 0))
            for q in range(pieces)
        ]

        def lines(
            count: int, u: Expr = u, lane_at: list = lane_at, pixel_at: list = pixel_at
        ) -> None:
            with loop(inputs) as j:
                line = let(start + (u * depth + j * shape.taps) * lanes)
                plane = let(j * (rows * pitch))
                for t, (r, s) in enumerate(taps):
                    tap = r * shape.dilation[0] * pitch + s * shape.dilation[1]
                    for q in range(count):
                        value = load(scratch, plane + pixel_at[q] + tap, lanes, shape.stride[1])
                        store(scratch, line + t * lanes + lane_at[q], value, lanes)

        if pieces == 1:
            lines(1)
        for count in range(1, pieces + 1) if pieces > 1 else ():
            rows_touched = tir.T.floordiv(x + lanes - 1, width) + 1
            with when(tir.minimum(rows_touched, chunk_rows - y) == count):
                lines(count)
