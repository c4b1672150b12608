"""Which steps a graph becomes: constants, counts and MACs of pixel gates and placed channels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

from headgate.compile.front.capture import capture
from headgate.compile.front.fuse import fuse
from headgate.compile.plan.select import select_kernels
from headgate.compile.plan.steps import ActiveList, Constant, Program
from headgate.device.targets import get_target
from headgate.errors import CompileError
from headgate.train.gates import gate
from headgate.train.pruning.operators import PlaceChannels
from tests.networks import conv_bn


def selected(module: nn.Module, *shape: int) -> Program:
    graph = capture(module.eval(), (torch.zeros(1, *shape),))
    fuse(graph)
    return select_kernels(graph, get_target("rpi4"))


def pixel_gated(**options) -> nn.Module:
    return gate(nn.Sequential(*conv_bn(8, 16)), method="cgnet", partitions=4, **options)


@pytest.mark.parametrize(("block", "rows"), [((1, 1), 8), ((4, 16), 4)])
def test_a_pixel_gate_counts_numbers(block: tuple[int, int], rows: int) -> None:
    program = selected(pixel_gated(block=block), 8, 6, 5)
    (step,) = program.steps
    (count,) = program.lists
    assert not isinstance(count, ActiveList)
    assert count.channels == 16 * 6 * 5
    row = step.manifest()
    assert row["out_gate"] == count.index
    assert row["base_macs"] == 9 * 2 * 16 * 30
    assert row["base_macs"] + row["macs_per_pair"] * count.channels == row["dense_macs"]
    assert row["dense_macs"] == 9 * 8 * 16 * 30
    assert row["pixel_tile"] == [rows, 4]


@pytest.mark.parametrize("block", [[2, 16], [8, 16], [4, 8], [1, 16], [4, 1]])
def test_a_block_that_no_register_tile_fits(block: list[int]) -> None:
    module = pixel_gated(grouped=True)
    module[0].block = block
    with pytest.raises(CompileError, match=rf"'0' decides by {block[0]} channels x {block[1]} pix"):
        selected(module, 8, 6, 5)


def test_a_placed_convolution_called_twice_keeps_both_places() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, padding=1)
            self.places = nn.ModuleList(
                PlaceChannels(torch.full((3,), float(i)), [i, 2]) for i in range(2)
            )

        def forward(self, x: Tensor) -> Tensor:
            first, second = (place(self.conv(x)) for place in self.places)
            return torch.cat([first, second], 1)

    program = selected(Twice(), 2, 4, 4)
    steps = [step for step in program.steps if "out_list" in step.arguments]
    assert len(steps) == 2
    for step, order in zip(steps, ([0, 2, 1], [1, 2, 0]), strict=True):
        placed, weight = step.arguments["out_list"], step.arguments["weight"]
        assert isinstance(placed, Constant)
        assert isinstance(weight, Constant)
        np.testing.assert_array_equal(program.constants()[placed.name], order)
        assert placed.data.dtype == np.int32
        assert step.dense_macs == 9 * 16 * 2 * 2
    assert steps[0].arguments["weight"].name == steps[1].arguments["weight"].name
