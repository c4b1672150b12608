"""The loops of a convolution of any dtype: groups, chunks of rows, register tiles.

What is multiplied, and how a tile is finished, is the business of a subclass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import gcd
from typing import Any, Protocol

from headgate.compile.kernels import tir
from headgate.compile.kernels.convolution import ConvShape, Epilogue
from headgate.compile.kernels.lists import segment
from headgate.compile.kernels.packing import clear_border, gather_columns
from headgate.compile.kernels.split import share
from headgate.compile.kernels.tiling import Tiling
from headgate.compile.kernels.tir import Buffer, Expr, let, loop, store, when

Rows = list[tuple[Expr, Expr]]
"""Of a register tile: (row of weights, output channel)."""


@dataclass(frozen=True)
class Pixels:
    """Where the pixels of a tile come from.

    The vector ``u`` of input ``j`` at tap (r, s) starts at ``vector(u) + plane(j) + tap(r, s)``.
    """

    buffer: Buffer
    vector: Callable[[Expr], Expr]
    plane: Callable[[Expr], Expr]
    tap: Callable[[Expr, int], Expr]


@dataclass(frozen=True)
class Place:
    """Where a vector of results goes in its plane.

    ``partial`` is the condition under which only ``valid`` lanes may be written, None where all
    always may. ``real`` is the number of lanes inside the image, None where all always are.
    """

    offset: Expr
    partial: Expr | None
    valid: int
    real: Expr | None


@dataclass(frozen=True)
class Inputs:
    """The active inputs of one group, as they are multiplied."""

    count: Expr
    """How many, or how many words of four."""
    channel: Callable[[Expr], Expr]
    """The channel of the tensor at a position of theirs."""
    weights: Any


@dataclass(frozen=True)
class Chunk:
    """Some output rows of one group, ready to be multiplied."""

    first: Expr
    """Its first output row."""
    rows: int
    inputs: Inputs
    outputs: tuple[Expr, Expr]
    """Where its active outputs begin in the list, and how many there are."""
    pixels: Pixels


class Convolving(Protocol):
    """What the loops read of a kernel."""

    @property
    def shape(self) -> ConvShape: ...
    @property
    def tiling(self) -> Tiling: ...
    @property
    def epilogue(self) -> Epilogue: ...
    @property
    def gated_in(self) -> bool: ...
    @property
    def clamp_inactive(self) -> bool: ...
    @property
    def placed(self) -> int: ...


class ConvLoops(ABC):
    """Writes one kernel; ``buffers`` are its arguments by name.

    ``shape`` is how the kernel's inputs and pixels are read: by fours, for example.
    """

    border: float | int = 0.0
    """What lies around the image."""

    def __init__(self, kernel: Convolving, shape: ConvShape, buffers: dict[str, Buffer]) -> None:
        self.kernel, self.shape, self.tiling = kernel, shape, kernel.tiling
        self.buffers, self.part = buffers, buffers["part"]

    @abstractmethod
    def inputs(self, group: Expr, first: Expr, count: Expr) -> Inputs:
        """Of ``group``, whose active inputs are ``count`` from position ``first`` on."""

    @abstractmethod
    def pad(self, inputs: Inputs, first: Expr) -> None:
        """Copies into the scratch what output rows from ``first`` on need, border included."""

    @abstractmethod
    def tile(self, chunk: Chunk, rows: Rows, u: Expr, count: int) -> None:
        """One register tile: some ``rows`` x ``count`` vectors from ``u`` on."""

    @abstractmethod
    def inactive(self, start: Expr, constant: Expr | None) -> Callable[[Expr, int], None]:
        """``move(at, width)``, which finishes some pixels of a plane that is not computed."""

    def direct(self, inputs: Inputs) -> Pixels:
        """The pixels of a 1x1 convolution that reads the input itself."""
        raise NotImplementedError

    def run(self) -> None:
        """The whole kernel."""
        shape, kernel, lanes = self.shape, self.kernel, self.tiling.lanes
        outputs = let(self.buffers["out_count"][0]) if kernel.epilogue.gate else shape.out_channels
        inputs = let(self.buffers["in_count"][0]) if kernel.gated_in else kernel.shape.in_channels
        first, end = share(shape.groups, 1, self.part) if shape.groups > 1 else (0, 1)
        with loop(end - first) as index:
            group = first + index
            mine = self.mine(self.segment("out_list", outputs, group, shape.group_out))
            if kernel.epilogue.means:
                sums = self.buffers["sums"]
                with loop(mine[1]) as i:
                    into = let(self.output(mine[0] + i) * lanes)
                    store(sums, into, tir.splat(0, lanes, sums.dtype), lanes)
            taken = self.segment("in_list", inputs, group, kernel.shape.group_in)
            self.group(self.inputs(group, *taken), mine)
        if kernel.clamp_inactive:
            self.finish_inactive(outputs, (kernel.placed or shape.out_channels) - outputs)

    def mine(self, outputs: tuple[Expr, Expr]) -> tuple[Expr, Expr]:
        """This part's share of the outputs of a group: (first position, length)."""
        if self.shape.groups > 1:
            return outputs
        first, end = share(outputs[1], self.tiling.rows, self.part)
        return first, let(end - first)

    def segment(self, name: str, count: Expr, group: Expr, size: int) -> tuple[Expr, Expr]:
        """The part of a list that lies in a group: (first position, length)."""
        return segment(self.buffers.get(name), count, group, size, self.shape.groups)

    def output(self, position: Expr) -> Expr:
        """The output channel at a position of the list."""
        return self.buffers["out_list"][position] if "out_list" in self.buffers else position

    def source(self, first: Expr, j: Expr) -> Expr:
        """The input channel at position ``j`` of those that begin at ``first``."""
        return self.buffers["in_list"][first + j] if self.kernel.gated_in else first + j

    def group(self, inputs: Inputs, outputs: tuple[Expr, Expr]) -> None:
        """One group's outputs, (first position, length)."""
        shape, tiling = self.shape, self.tiling
        if tiling.mode == "direct":
            self.tiles(Chunk(0, shape.out_height, inputs, outputs, self.direct(inputs)))
            return
        clear_border(shape, tiling, self.buffers["scratch"], inputs.count, self.border)
        rows = tiling.chunks(shape)
        equal = rows.count(rows[0])
        with loop(equal) as index:
            first = let(index * rows[0])
            self.tiles(self.chunk(first, rows[0], inputs, outputs))
        if equal < len(rows):
            first = equal * rows[0]
            self.tiles(self.chunk(first, rows[-1], inputs, outputs))

    def chunk(self, first: Expr, rows: int, inputs: Inputs, outputs: tuple[Expr, Expr]) -> Chunk:
        """Copies what ``rows`` output rows from ``first`` on need, and says where it lies."""
        shape, tiling, scratch = self.shape, self.tiling, self.buffers["scratch"]
        self.pad(inputs, first)
        pitch, lanes = tiling.padded_pitch(shape), tiling.lanes
        if tiling.mode == "padded":
            across = -(-shape.out_width // lanes)
            pixels = Pixels(
                scratch,
                lambda u: tir.T.floordiv(u, across) * pitch + tir.T.floormod(u, across) * lanes,
                lambda j: j * (tiling.padded_rows(shape) * pitch),
                lambda r, s: r * (shape.dilation[0] * pitch) + s * shape.dilation[1],
            )
        else:
            start = tiling.padded_size(shape)
            gather_columns(shape, tiling, scratch, start, inputs.count, rows)
            pixels = Pixels(
                scratch,
                lambda u: start + u * (shape.group_in * shape.taps * lanes),
                lambda j: j * (shape.taps * lanes),
                lambda r, s: (r * shape.kernel[1] + s) * lanes,
            )
        return Chunk(first, rows, inputs, outputs, pixels)

    def tiles(self, chunk: Chunk) -> None:
        """All register tiles of a chunk."""
        if self.tiling.weights_outer:
            self.blocks(
                chunk.outputs,
                lambda rows, _: self.vectors(
                    chunk, lambda u, count: self.tile(chunk, rows, u, count)
                ),
            )
        else:
            self.vectors(
                chunk,
                lambda u, count: self.blocks(
                    chunk.outputs, lambda rows, _: self.tile(chunk, rows, u, count)
                ),
            )

    def vectors(self, chunk: Chunk, body: Callable[[Expr, int], None]) -> None:
        """``body(first, count)`` for every few vectors of pixels."""
        whole, rest = divmod(self.tiling.chunk_vectors(self.shape, chunk.rows), self.tiling.vectors)
        if whole:
            with loop(whole) as group:
                body(group * self.tiling.vectors, self.tiling.vectors)
        if rest:
            body(whole * self.tiling.vectors, rest)

    def blocks(self, outputs: tuple[Expr, Expr], body: Callable[[Rows, Expr], None]) -> None:
        """``body(rows, behind)`` for every few active output channels.

        ``behind`` is the position in the list of the output that follows them.
        """
        (first, count), rows = outputs, self.tiling.rows
        full = count // rows if isinstance(count, int) else let(tir.T.floordiv(count, rows))
        with loop(full) as block:
            at = let(first + block * rows)
            body([self.row(outputs, at + i) for i in range(rows)], at + rows)
        if not self.kernel.epilogue.gate and self.shape.group_out % rows == 0:
            return
        # What is left goes by half tiles, whose surplus rows repeat the last channel.
        half, start = rows // 2, let(full * rows)
        with loop(tir.T.floordiv(count - start + half - 1, half)) as block:
            at, last = let(first + start + block * half), first + count - 1
            rest = [self.row(outputs, tir.minimum(at + i, last)) for i in range(half)]
            body(rest, at + half)

    def row(self, outputs: tuple[Expr, Expr], position: Expr) -> tuple[Expr, Expr]:
        """The row of weights of the output at a position of the list, and its channel."""
        channel = let(self.output(position))
        return position if self.kernel.placed else channel, channel

    def place(self, u: Expr, first: Expr) -> Place:
        """Where vector ``u`` of the chunk that starts at row ``first`` is stored."""
        lanes, shape = self.tiling.lanes, self.shape
        if self.tiling.mode == "padded":
            across = -(-shape.out_width // lanes)
            row = let(first + tir.T.floordiv(u, across))
            column = let(tir.T.floormod(u, across) * lanes)
            offset = let(row * shape.out_width + column)
            valid = shape.out_width % lanes
            if valid == 0:
                return Place(offset, None, lanes, None)
            if self.kernel.epilogue.residual == "in_place":
                partial = column + lanes > shape.out_width
            else:
                # What runs over lands in the next rows, which are stored later.
                partial = offset + lanes > shape.pixels
            return Place(offset, partial, valid, tir.minimum(shape.out_width - column, lanes))
        offset = let(first * shape.out_width + u * lanes)
        valid = shape.pixels % lanes
        if valid == 0:
            return Place(offset, None, lanes, None)
        partial = offset + lanes > shape.pixels
        return Place(offset, partial, valid, tir.minimum(shape.pixels - offset, lanes))

    def finish_inactive(self, outputs: Expr, others: Expr) -> None:
        """The channels that are not computed: residual and constant, behind the activation."""
        shape, lanes = self.shape, max(4, gcd(self.tiling.lanes, 16))
        first, end = share(others, 1, self.part)
        with loop(end - first) as i:
            channel = let(self.output(outputs + first + i))
            start = let(channel * shape.pixels)
            constant = let(self.buffers["constant"][channel]) if self.kernel.placed else None
            move = self.inactive(start, constant)
            whole = shape.pixels // lanes
            if whole:
                with loop(whole) as v:
                    move(v * lanes, lanes)
            for at in range(whole * lanes, shape.pixels):
                move(at, 1)


def store_vector(buffer: Buffer, value: Expr, start: Expr, place: Place, lanes: int) -> None:
    """Stores a vector of results where it belongs, and touches nothing that is not its own."""
    offset = let(start + place.offset)
    if place.partial is None:
        store(buffer, offset, value, lanes)
        return
    with when(place.partial):
        tir.store_part(buffer, offset, value, lanes, place.valid)
    with when(tir.tirx.Not(place.partial)):
        store(buffer, offset, value, lanes)


def masked(value: Expr, real: Expr, lanes: int, dtype: str) -> Expr:
    """Zero in the lanes outside the image."""
    lane = tir.T.ramp(0, 1, lanes)
    zero = tir.splat(0, lanes, dtype)
    return tir.tirx.Select(lane < tir.T.broadcast(real, lanes), value, zero)
