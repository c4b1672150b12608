"""An int8 convolution of small images: the lanes of a vector are inputs, not pixels.

Planes of few pixels fill no vector, and many inputs make weights that are not read twice from the
nearest cache. Here a vector of inputs of one pixel meets a vector of weights of one output, and
the lanes are summed at the end. What lies outside the image is not multiplied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tvm import tirx

from headgate.compile.isa.base import DotIsa
from headgate.compile.kernels import tir
from headgate.compile.kernels.conv_loops import Inputs, Place, Rows
from headgate.compile.kernels.convolution import ConvRequest, ConvShape
from headgate.compile.kernels.i8.conv2d import ConvEmitter, ConvKernel
from headgate.compile.kernels.i8.microkernel import zero
from headgate.compile.kernels.i8.packing import each_word, interleaved, planes_of, runs
from headgate.compile.kernels.i8.words import CODES_PER_WORD
from headgate.compile.kernels.tiling import ASSUMED_DENSITY, Tiling, estimate
from headgate.compile.kernels.tir import Buffer, Expr, let, load, loop, splat, store, when
from headgate.device.tensor_type import INT32, TensorType

MAX_WIDTH = 16
"""Pixels of a row, where they have neighbours: each place in a row has code of its own."""

ANNOUNCED_ROWS = 4
"""Rows of an image that take long enough to fetch weights meanwhile."""
LINE_WORDS = 16
"""Words of a line of the cache."""


@dataclass(frozen=True)
class InnerConv(ConvKernel):
    """A convolution with inputs in lanes; ``tiling.lanes`` are those of a row of results."""

    @classmethod
    def of(cls, isa: DotIsa, *_: Any, request: ConvRequest, dtypes: tuple[str, ...]) -> ConvKernel:
        """This kernel, or the one with pixels in lanes where that takes fewer cycles."""
        other = ConvKernel.of(isa, request=request, dtypes=dtypes)
        shape = _flat(request.shape)
        if isa.partials > 1 or (shape.taps > 1 and shape.out_width > MAX_WIDTH):
            return other
        words = replace(shape, in_channels=shape.groups * -(-shape.group_in // CODES_PER_WORD))
        pixels = _widths(shape, isa)[0]
        # Sums, the pixels that they are of, and one vector of weights.
        rows = max(2, min(isa.rows, (isa.registers - 1 - pixels) // pixels))
        narrow = 1 << (max(pixels, 4) - 1).bit_length()
        tiling = Tiling("inner", rows, 1, narrow, shape.out_height, True)
        own = replace(other, shape=shape, words=words, tiling=tiling)
        own = cls(**{name: getattr(own, name) for name in own.__dataclass_fields__})
        gated = request.gated_in, request.epilogue.gate
        density = (ASSUMED_DENSITY if gated[0] else 1.0, ASSUMED_DENSITY if gated[1] else 1.0)
        if own.cycles(density) < estimate(other.words, other.tiling, isa, density):
            return own
        return other

    @property
    def chooses_once(self) -> bool:
        return False

    @property
    def together(self) -> int:
        return 1

    @property
    def pitch(self) -> int:
        """Words from one pixel to the next, and what a vector may touch behind them."""
        lanes = self.isa.lanes
        return -(-self.words.group_in // lanes) * lanes

    def scratch(self) -> dict[str, TensorType]:
        pixels = self.shape.height * self.shape.width + 1
        return super().scratch() | {"scratch": TensorType((pixels * self.pitch,), INT32)}

    def cycles(self, density: tuple[float, float]) -> float:
        """An estimate like that of :func:`estimate`."""
        isa, shape = self.isa, self.shape
        mac, read = isa.mac_cycles[isa.lanes], isa.load_cycles[isa.lanes]
        vectors = -(-max(1.0, self.words.group_in * density[0]) // isa.lanes)
        outputs = max(1.0, shape.group_out * density[1])
        tiles, rows = outputs / self.tiling.rows, self.tiling.rows
        total = 0.0
        for width in _widths(shape, isa):
            step = rows * width * mac + 0.12 * (rows + width) * read
            ends = 3.0 * rows * self.tiling.lanes * read
            total += tiles * shape.out_height * (shape.taps * vectors * step + ends)
        words = self.words.group_in * density[0] * shape.height * shape.width
        return shape.groups * (total + 2.5 * words * read)

    def _body(self, **buffers: Buffer) -> None:
        InnerEmitter(self, buffers).run()


def _flat(shape: ConvShape) -> ConvShape:
    """The pixels of a 1x1 convolution are one row."""
    if not shape.pointwise:
        return shape
    return replace(shape, height=1, width=shape.height * shape.width)


def _widths(shape: ConvShape, isa: DotIsa) -> list[int]:
    """The pixels of each tile of a row, the widest first."""
    count = -(-shape.out_width // min(isa.registers // 4, isa.lanes))
    short, more = divmod(shape.out_width, count)
    return [short + 1] * more + [short] * (count - more)


class InnerEmitter(ConvEmitter):
    """The loops: outputs, rows of pixels, tiles of a row, taps, vectors of inputs."""

    kernel: InnerConv

    def group(self, inputs: Inputs, outputs: tuple[Expr, Expr]) -> None:
        self.scale(outputs)
        self.fill(inputs)

        def block(rows: Rows, behind: Expr) -> None:
            own = self.choose_tile(inputs, rows) if self.kernel.gated_in else rows
            with loop(self.shape.out_height) as y:
                if self.shape.out_height >= ANNOUNCED_ROWS:
                    self.announce(outputs, behind, y)
                self.columns(lambda x, width: self.pixels(inputs, own, y, x, width))

        self.blocks(outputs, block)

    def announce(self, outputs: tuple[Expr, Expr], position: Expr, y: Expr) -> None:
        """Has the core fetch its part of the weights of the next tile, while this one is computed.

        Each tile's weights are read once, in pieces too short for the core to foresee the next.
        """
        row = self.shape.taps * self.pitch
        share = -(-row // (LINE_WORDS * self.shape.out_height))
        first, count = outputs
        for i in range(self.tiling.rows):
            start = self.row(outputs, tir.minimum(position + i, first + count - 1))[0] * row
            with loop(share) as line:
                at = start + tir.minimum((y * share + line) * LINE_WORDS, row - 1)
                tir.prefetch(self.buffers["weight"], at)

    def columns(self, body: Callable[[Expr, int], None]) -> None:
        """``body(first, width)`` for each tile of a row."""
        widths, first = _widths(self.shape, self.isa), 0
        for width in dict.fromkeys(widths):
            count = widths.count(width)
            if self.shape.taps > 1:
                for index in range(count):
                    body(first + index * width, width)
            else:
                with loop(count) as index:
                    body(let(first + index * width), width)
            first += count * width

    def fill(self, inputs: Inputs) -> None:
        """Writes the words of every pixel, one behind the other, and a pixel of the border."""
        scratch, pitch = self.buffers["scratch"], self.kernel.pitch
        lanes, pixels = self.isa.lanes, self.shape.height * self.shape.width
        # A vector may reach behind the last word, and must find zeros there.
        last = let(tir.T.floordiv(inputs.count - 1, lanes) * lanes)
        with loop(pixels + 1) as p:
            store(scratch, let(p * pitch + last), splat(0, lanes, INT32), lanes)
        if self.border:
            with loop(inputs.count) as j:
                store(scratch, pixels * pitch + j, tir.int32(int(self.border)))

        def word(j: Expr, members: int) -> None:
            starts = planes_of(j, members, inputs.weights, inputs.channel, pixels)
            for at, width, times in runs(pixels):
                with loop(times) as i:
                    first = let(at + i * width) if times > 1 else at
                    here = [start + first for start in starts]
                    value = let(interleaved(self.buffers["x"], here, width, int(self.border)))
                    for q in range(width):
                        own = tir.element(value, q) if width > 1 else value
                        store(scratch, let((first + q) * pitch + j), own)

        each_word(inputs.weights, word)

    def pixels(self, inputs: Inputs, rows: Rows, y: Expr, x: Expr, width: int) -> None:
        """One register tile: ``width`` pixels of row ``y`` from column ``x`` on."""
        shape, isa, lanes = self.shape, self.isa, self.isa.lanes
        acc = tir.local(len(rows) * width * lanes, INT32)
        zero(acc, len(rows) * width * lanes, lanes)
        weights = self.weights
        starts = [let(weights.row(row)) for row, _ in rows]
        vectors = self.vectors_of(inputs.count)
        with loop(shape.kernel[0]) as r:
            row = let(y * shape.stride[0] - shape.padding[0] + r * shape.dilation[0])
            inside: Any = True
            if shape.padding[0] or shape.padding[2]:
                inside = tirx.all(row >= 0, row < shape.height)
            with when(True if self.border else inside):
                for s in range(shape.kernel[1]):
                    found = self.sources(row, x, s, width, inside)
                    if not found:
                        continue
                    tap = let((r * shape.kernel[1] + s) * weights.pitch)
                    with loop(vectors) as d:
                        move = let(d * lanes)
                        own = {
                            v: let(load(self.buffers["scratch"], at + move, lanes))
                            for v, at in found.items()
                        }
                        for i, start in enumerate(starts):
                            own_weights = let(weights.words(start + (tap + move), lanes))
                            for v, pixels in own.items():
                                at = (i * width + v) * lanes
                                total = isa.dot(
                                    load(acc, at, lanes),
                                    [(pixels, own_weights)],
                                    lanes,
                                    isa.operand(self.dtype),
                                )
                                store(acc, at, total, lanes)
        self.end(acc, rows, y, x, width)

    def vectors_of(self, words: Expr) -> Expr:
        """How many vectors so many words are, as a number that LLVM does not know.

        It would unroll the loop, load what all turns need at once, and spill it.
        """
        if isinstance(words, int):
            return let(-(-words // self.isa.lanes) + tir.minimum(self.part[0], 0))
        return let(tir.T.floordiv(words + (self.isa.lanes - 1), self.isa.lanes))

    def sources(self, row: Expr, x: Expr, s: int, width: int, inside: Any) -> dict[int, Expr]:
        """Where the words of the tile's pixels lie that have something at column ``s`` of taps."""
        shape, pitch = self.shape, self.kernel.pitch
        border = shape.height * shape.width * pitch
        found = {}
        for v in range(width):
            column = (x + v) * shape.stride[1] - shape.padding[1] + s * shape.dilation[1]
            if not isinstance(column, int) or 0 <= column < shape.width:
                at = (row * shape.width + column) * pitch
                whole = inside is True or not self.border
                found[v] = let(at if whole else tirx.Select(inside, at, tir.int32(border)))
            elif self.border:
                found[v] = border
        return found

    def end(self, acc: Buffer, rows: Rows, y: Expr, x: Expr, width: int) -> None:
        """Sums the lanes and finishes the tile."""
        lanes, narrow = self.isa.lanes, self.tiling.lanes
        summed = tir.local(len(rows) * narrow * self.isa.partials, INT32)
        for i in range(len(rows)):
            parts = [load(acc, (i * width + v) * lanes, lanes) for v in range(width)]
            store(summed, i * narrow, lane_sums(parts, lanes, narrow), narrow)
        offset = let(y * self.shape.out_width + x)
        exact = width == narrow
        place = Place(offset, None if exact else True, width, None if exact else width)
        channels, biases = [channel for _, channel in rows], [self.bias(row) for row in rows]
        self.finish.end(summed, channels, self.shape.pixels, [place], narrow, biases)


def lane_sums(vectors: list[Expr], lanes: int, narrow: int) -> Expr:
    """The sum of each vector, one in each of ``narrow`` lanes; those without a vector are zero."""
    zeros = splat(0, lanes, INT32)
    parts = vectors + [zeros] * (narrow - len(vectors))
    even, odd = ([tir.int32(2 * i + k) for i in range(lanes)] for k in (0, 1))
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [
            let(tir.T.Shuffle([a, b], even) + tir.T.Shuffle([a, b], odd))
            if a is not zeros
            else zeros
            for a, b in pairs
        ]
    (total,) = parts
    while lanes > narrow:
        lanes //= 2
        half = [[tir.int32(2 * i + k) for i in range(lanes)] for k in (0, 1)]
        total = let(tir.T.Shuffle([total], half[0]) + tir.T.Shuffle([total], half[1]))
    return total
