"""How a convolution is cut into register tiles, chosen per layer by a small cost model.

A kernel computes ``rows`` output channels x ``vectors`` vectors of ``lanes`` output pixels at a
time and keeps them in registers. Channels are scalars on both sides, so a skipped channel is a row
or a loop iteration that is never visited.

Where the pixels come from:

* ``direct``: a 1x1 convolution reads the input itself.
* ``padded``: stride 1; a few rows are copied with their border of zeros and read at every tap.
* ``columns``: any stride; from those rows, the pixels of each tap are lined up (im2col).

Only active input channels are copied, so a gated input is compact by the time it is multiplied.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import ceil, log2

from headgate.compile.isa import Isa
from headgate.compile.kernels.convolution import ConvShape

MIN_CHUNK_ROWS = 4
"""Fewer rows at a time would copy the overlap of neighbouring chunks too often."""
SMALL_SCRATCH_BYTES = 14 << 10
"""Scratch that stays in the first-level cache and is small beside the activations."""
ASSUMED_DENSITY = 0.5
"""What the cost model takes for a gated side."""


@dataclass(frozen=True)
class Tiling:
    """One choice; ``chunk_rows`` output rows are prepared and multiplied at a time."""

    mode: str
    rows: int
    vectors: int
    lanes: int
    chunk_rows: int
    weights_outer: bool
    """Output channels in the outer loop: the weights are read once, the pixels again and again."""

    def chunk_vectors(self, shape: ConvShape, rows: int) -> int:
        """Vectors of pixels in a chunk of ``rows`` output rows."""
        if self.mode == "padded":
            return rows * ceil(shape.out_width / self.lanes)
        return ceil(rows * shape.out_width / self.lanes)

    def chunks(self, shape: ConvShape) -> list[int]:
        """The rows of each chunk, in order; all but the last are equal."""
        whole, rest = divmod(shape.out_height, self.chunk_rows)
        return [self.chunk_rows] * whole + ([rest] if rest else [])

    def padded_rows(self, shape: ConvShape) -> int:
        """Input rows that a chunk needs, border included."""
        span = (shape.kernel[0] - 1) * shape.dilation[0] + 1
        return (self.chunk_rows - 1) * shape.stride[0] + span

    def padded_pitch(self, shape: ConvShape) -> int:
        """Numbers from one padded row to the next: all that a full vector at any tap may touch."""
        across = self.lanes * ceil(shape.out_width / self.lanes)
        span = (shape.kernel[1] - 1) * shape.dilation[1] + 1
        needed = (across - 1) * shape.stride[1] + span
        return max(needed, shape.width + shape.padding[1] + shape.padding[3])

    def padded_size(self, shape: ConvShape) -> int:
        """Numbers of scratch for the padded rows, with room for a vector read past the end."""
        if self.mode == "direct":
            return 0
        plane = self.padded_rows(shape) * self.padded_pitch(shape)
        return shape.group_in * plane + 2 * self.lanes * shape.stride[1]

    def column_size(self, shape: ConvShape) -> int:
        """Numbers of scratch for the columns, with room for a vector written past the end."""
        if self.mode != "columns":
            return 0
        vectors = max(self.chunk_vectors(shape, rows) for rows in set(self.chunks(shape)))
        return shape.group_in * shape.taps * vectors * self.lanes + self.lanes

    def scratch_size(self, shape: ConvShape) -> int:
        """Numbers of scratch altogether."""
        return self.padded_size(shape) + self.column_size(shape)


REGISTER_ROWS = 8
"""Output channels of a register tile: enough chains of additions to hide their latency."""


def estimate(shape: ConvShape, tiling: Tiling, isa: Isa, density: tuple[float, float]) -> float:
    """An estimate for ranking, not a prediction."""
    inputs = max(1.0, shape.group_in * density[0])
    blocks = max(1.0, ceil(shape.group_out * density[1] / 4) / (tiling.rows / 4))
    mac, load = isa.mac_cycles[tiling.lanes], isa.load_cycles[tiling.lanes]

    def tile(vectors: int) -> float:
        # Loads mostly hide behind the arithmetic, but not for free: they take issue slots.
        loads = tiling.rows / isa.weight_lanes + vectors
        return tiling.rows * vectors * mac + 0.12 * loads * load

    total = 0.0
    for rows in tiling.chunks(shape):
        whole, rest = divmod(tiling.chunk_vectors(shape, rows), tiling.vectors)
        tiles = whole * tile(tiling.vectors) + (tile(rest) if rest else 0)
        total += shape.taps * inputs * blocks * tiles
        if tiling.mode != "direct":
            rows_in = (rows - 1) * shape.stride[0] + shape.kernel[0]
            total += 2.5 * load * inputs * rows_in * ceil(shape.width / tiling.lanes)
        if tiling.mode == "columns":
            # Vectors that span rows are written in pieces.
            pieces = (
                1 + (tiling.lanes - 1) / shape.out_width if shape.out_width % tiling.lanes else 1
            )
            cost = 2.0 * (1 if shape.stride[1] == 1 else 2) * pieces
            vectors = tiling.chunk_vectors(shape, rows)
            total += cost * load * inputs * shape.taps * vectors
    return total * shape.groups


def choose_tiling(
    shape: ConvShape,
    isa: Isa,
    *,
    gated_in: bool = False,
    gated_out: bool = False,
    rows: int = REGISTER_ROWS,
    run_pixels: int | None = None,
    packed: bool = False,
) -> Tiling:
    """The tiling that the cost model ranks first.

    With ``run_pixels`` neither a vector nor a chunk ends inside a run of so many pixels of the
    flattened image, wherever one begins at a multiple of it. ``packed``: what is multiplied is
    always a copy, also in a 1x1 convolution.
    """
    density = (ASSUMED_DENSITY if gated_in else 1.0, ASSUMED_DENSITY if gated_out else 1.0)
    modes = ["columns"]
    if shape.pointwise:
        modes = ["padded"] if packed else ["direct"]
        if packed and run_pixels is not None:
            modes.append("columns")
    elif shape.stride == (1, 1):
        modes.append("padded")
    weights_bytes = isa.item_bytes * shape.group_in * shape.group_out * shape.taps
    best: tuple[float, Tiling] | None = None
    for mode, lanes in product(modes, isa.mac_cycles):
        if run_pixels is not None and mode == "padded" and shape.out_width % lanes:
            continue
        heights = _chunk_rows(shape, mode, lanes)
        if run_pixels is not None and mode != "direct":
            run = max(run_pixels, lanes)
            heights = [r for r in heights if r * shape.out_width % run == 0] or [shape.out_height]
        for vectors in isa.tile_vectors:
            for chunk_rows in heights:
                tiling = Tiling(
                    mode, rows, vectors, lanes, chunk_rows, weights_bytes > isa.cache_bytes // 2
                )
                scratch = isa.item_bytes * tiling.scratch_size(shape)
                if scratch > max(SMALL_SCRATCH_BYTES, isa.cache_bytes // 2) and (
                    chunk_rows > heights[0]
                ):
                    continue
                cost = estimate(shape, tiling, isa, density)
                cost *= 1.0 + 0.015 * log2(max(1.0, scratch / SMALL_SCRATCH_BYTES))
                if best is None or cost < best[0] * 0.999:
                    best = (cost, tiling)
    if best is None:
        raise AssertionError(f"no tiling for {shape} with {isa.name}")
    return best[1]


def _chunk_rows(shape: ConvShape, mode: str, lanes: int) -> list[int]:
    """Candidate chunk heights, smallest first."""
    height, width = shape.out_height, shape.out_width
    if mode == "direct":
        return [height]
    start = min(MIN_CHUNK_ROWS, height)
    candidates = [r for r in (*range(start, min(height, 16) + 1), height)]
    if mode == "columns":
        # A chunk that ends inside a vector would leave that vector's other lanes to be clobbered.
        candidates = [r for r in range(1, min(height, 16) + 1) if r * width % lanes == 0] or [
            height
        ]
    return sorted({r for r in candidates if r <= height}) or [height]
