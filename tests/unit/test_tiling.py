"""Tilings fit their convolution, whatever the cost model prefers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from headgate.compile.isa import Isa, isa_for
from headgate.compile.kernels.convolution import ConvShape
from headgate.compile.kernels.tiling import Tiling, choose_tiling
from headgate.device.targets import TARGET_NAMES, get_target
from headgate.device.tensor_type import FLOAT32

BOARDS = [name for name in TARGET_NAMES if name != "host"]


@st.composite
def shapes(draw: st.DrawFn) -> ConvShape:
    def pair(strategy: st.SearchStrategy[int]) -> tuple[int, int]:
        return draw(strategy), draw(strategy)

    groups = draw(st.sampled_from([1, 1, 2, 4]))
    kernel, dilation = pair(st.integers(1, 7)), pair(st.integers(1, 3))
    shape = ConvShape(
        groups * draw(st.integers(1, 64)),
        groups * draw(st.integers(1, 64)),
        *pair(st.integers(1, 60)),
        kernel,
        pair(st.integers(1, 3)),
        (*pair(st.integers(0, 3)), *pair(st.integers(0, 3))),
        dilation,
        groups,
    )
    assume(shape.out_height >= 1 and shape.out_width >= 1)
    return shape


def board_isa(name: str) -> Isa:
    return isa_for(get_target(name), FLOAT32)


@st.composite
def tilings(draw: st.DrawFn) -> tuple[ConvShape, Isa, Tiling]:
    shape, isa = draw(shapes()), board_isa(draw(st.sampled_from(BOARDS)))
    sides = {"gated_in": draw(st.booleans()), "gated_out": draw(st.booleans())}
    return shape, isa, choose_tiling(shape, isa, **sides)


@given(shapes())
def test_output_size_is_pytorchs(shape: ConvShape) -> None:
    top, left, bottom, right = shape.padding
    with torch.device("meta"):
        x = torch.empty(1, 1, shape.height + top + bottom, shape.width + left + right)
        weight = torch.empty(1, 1, *shape.kernel)
        y = torch.conv2d(x, weight, None, shape.stride, 0, shape.dilation)
    assert y.shape[2:] == (shape.out_height, shape.out_width)
    assert shape.pixels == y.numel()
    assert shape.macs_per_pair == y.numel() * weight.numel()


@given(tilings())
def test_chunks_cover_every_row_once(case: tuple[ConvShape, Isa, Tiling]) -> None:
    shape, _, tiling = case
    chunks = tiling.chunks(shape)
    assert sum(chunks) == shape.out_height
    assert all(rows == tiling.chunk_rows for rows in chunks[:-1])
    assert 1 <= chunks[-1] <= tiling.chunk_rows


@given(tilings())
def test_modes_fit_the_shape(case: tuple[ConvShape, Isa, Tiling]) -> None:
    shape, isa, tiling = case
    assert tiling.lanes in isa.mac_cycles
    assert tiling.rows % 4 == 0
    assert (tiling.mode == "direct") == shape.pointwise
    if tiling.mode == "padded":
        assert shape.stride == (1, 1)
    if tiling.mode == "columns" and len(tiling.chunks(shape)) > 1:
        # Otherwise a vector would be shared by two chunks.
        assert tiling.chunk_rows * shape.out_width % tiling.lanes == 0


@given(tilings())
def test_vectors_of_a_chunk_hold_all_its_pixels(case: tuple[ConvShape, Isa, Tiling]) -> None:
    shape, _, tiling = case
    for rows in tiling.chunks(shape):
        assert tiling.chunk_vectors(shape, rows) * tiling.lanes >= rows * shape.out_width


@given(tilings())
def test_scratch_holds_what_a_chunk_reads(case: tuple[ConvShape, Isa, Tiling]) -> None:
    """The last lane of the last vector at the last tap of the last input channel."""
    shape, _, tiling = case
    if tiling.mode == "direct":
        assert tiling.scratch_size(shape) == 0
        return
    pitch, rows = tiling.padded_pitch(shape), tiling.padded_rows(shape)
    assert pitch >= shape.width + shape.padding[1] + shape.padding[3]
    across = -(-shape.out_width // tiling.lanes) * tiling.lanes
    column = (across - 1) * shape.stride[1] + (shape.kernel[1] - 1) * shape.dilation[1]
    row = (tiling.chunk_rows - 1) * shape.stride[0] + (shape.kernel[0] - 1) * shape.dilation[0]
    assert column < pitch
    assert row < rows
    last = ((shape.group_in - 1) * rows + row) * pitch + column
    assert last < tiling.padded_size(shape)
    if tiling.mode == "columns":
        vectors = max(tiling.chunk_vectors(shape, rows) for rows in tiling.chunks(shape))
        assert tiling.column_size(shape) >= shape.group_in * shape.taps * vectors * tiling.lanes


@pytest.mark.parametrize("name", [name for name in BOARDS if get_target(name).l2_bytes])
def test_large_images_are_cut_into_chunks_that_fit_the_cache(name: str) -> None:
    isa = board_isa(name)
    shape = ConvShape(64, 64, 224, 224, (3, 3), padding=(1, 1, 1, 1))
    tiling = choose_tiling(shape, isa)
    assert isa.item_bytes * tiling.scratch_size(shape) <= 2 * isa.cache_bytes
    assert len(tiling.chunks(shape)) > 1


@given(shapes(), st.sampled_from(BOARDS), st.sampled_from([1, 16, 32, 48]), st.sampled_from([4, 8]))
def test_runs_of_pixels_stay_whole(shape: ConvShape, name: str, run: int, rows: int) -> None:
    """What a pixel gate decides on together is never cut by a vector's end or a chunk's."""
    isa = board_isa(name)
    tiling = choose_tiling(shape, isa, rows=rows, run_pixels=run)
    assert tiling.rows == rows
    assert run == 1 or run % tiling.lanes == 0
    if tiling.mode == "padded":
        # Vectors would begin anew in each row of the image.
        assert shape.out_width % tiling.lanes == 0
    if len(tiling.chunks(shape)) > 1:
        assert tiling.chunk_rows * shape.out_width % max(run, tiling.lanes) == 0
