"""Counting pixel gates: the formula per pixel and channel, and tile by tile."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from headgate.train.gates import CGNetConv2d, gate, gates
from headgate.train.macs import CONVENTION, count_macs
from headgate.train.macs.pixel_gates import channel_runs
from headgate.train.models import create_model


@pytest.mark.parametrize(
    ("channels", "chunk", "rows", "runs"),
    [
        (16, 16, 8, [8, 8]),
        (16, 4, 8, [4, 4, 4, 4]),
        (24, 12, 8, [8, 4, 8, 4]),
        (14, 14, 8, [8, 4, 2]),
        (6, 3, 8, [3, 3]),
        (10, 5, 4, [4, 1, 4, 1]),
        (3, 3, 1, [1, 1, 1]),
    ],
)
def test_runs_of_channels_end_with_their_chunk(
    channels: int, chunk: int, rows: int, runs: list[int]
) -> None:
    assert channel_runs(channels, chunk, rows) == runs


@settings(max_examples=10, deadline=None)
@given(
    partitions=st.sampled_from([2, 4]),
    grouped=st.booleans(),
    outputs=st.sampled_from([8, 16, 24]),
    rows=st.sampled_from([1, 4, 8]),
    lanes=st.sampled_from([1, 4, 16]),
    stride=st.integers(1, 2),
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    threshold=st.sampled_from([-9.0, 0.5, 1.5, 9.0]),
    seed=st.integers(0, 1000),
)
def test_a_tile_costs_as_if_all_of_it_were_on(
    partitions: int,
    grouped: bool,
    outputs: int,
    rows: int,
    lanes: int,
    stride: int,
    size: tuple[int, int],
    threshold: float,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    conv, norm = nn.Conv2d(8, outputs, 3, stride, 1), nn.BatchNorm2d(outputs)
    options: dict[str, Any] = {"partitions": partitions, "grouped": grouped, "start": threshold}
    layer = CGNetConv2d(conv, norm, "layer", **options).eval()
    nn.init.ones_(layer.partial.running_var)
    images = torch.randn(3, 8, *size)
    layer(images)
    on = layer.last_gate
    assert on is not None

    plain = count_macs(layer, images)
    tiled = count_macs(layer, images, pixel_tile=(rows, lanes))
    each, base = 8 * 9, 8 * 9 // partitions
    chunk = outputs // partitions if grouped else outputs
    flat = on.flatten(2)
    pixels = flat.shape[2]
    assert plain.dense == tiled.dense == outputs * pixels * each
    for image in range(3):
        elements = 0
        for first in range(0, outputs, chunk):
            row = first
            while row < first + chunk:
                left = first + chunk - row
                run = rows if left >= rows else min(left, max(rows // 2, 1))
                for lane in range(0, pixels, lanes):
                    tile = flat[image, row : row + run, lane : lane + lanes]
                    elements += tile.numel() * bool(tile.any())
                row += run
        assert tiled.executed_per_image[image] == outputs * pixels * base + elements * (each - base)
        wanted = outputs * pixels * base + int(flat[image].sum()) * (each - base)
        assert plain.executed_per_image[image] == wanted


def test_blocks_of_the_kernels_tile_make_both_counts_equal() -> None:
    torch.manual_seed(0)
    module = create_model("resnet8").train()
    images = torch.randn(8, 3, 32, 32)
    for block, equal in (((8, 16), True), ((1, 1), False)):
        gated = gate(module, "cgnet", block=block)
        gated(images)
        plain = count_macs(gated, images)
        tiled = count_macs(gated, images, pixel_tile=(8, 16))
        assert (plain.executed == tiled.executed) == equal
        assert plain.executed <= tiled.executed <= plain.dense == 12_501_632
        assert plain.unsupported() == {} and plain.gate == 0
        assert plain.by_operator["pixel_gated_conv2d"].dense == 11_796_480
        assert plain.by_module.keys() >= gates(gated).keys()
        least = 12_501_632 - 11_796_480 * 3 // 4
        assert least < plain.executed


def test_the_convention_says_how_pixel_gates_are_counted() -> None:
    module, example = create_model("resnet8"), torch.zeros(1, 3, 32, 32)
    plain, tiled = (count_macs(module, example, pixel_tile=t).convention for t in (None, (8, 16)))
    assert plain == CONVENTION and "counted per pixel and channel" in plain
    assert "tiles of 8 channels by 16 pixels" in tiled
