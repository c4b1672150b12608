"""Codes: scales, bounds, weights by output, and what the reference makes of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

from headgate.compile.front.capture import capture
from headgate.compile.front.fuse import fuse
from headgate.compile.front.graph import Graph
from headgate.compile.front.quantize.convert import quantize
from headgate.compile.front.quantize.ranges import check_varied, find_ranges
from headgate.compile.front.quantize.reference import code, evaluate
from headgate.errors import InputError
from headgate.train.quantization.codes import Codes, quantized_rows
from headgate.train.quantization.ranges import BINS, Range


def test_halves_go_to_the_even_code() -> None:
    values = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 300.0, -300.0], np.float32)
    assert code(values, (-128.0, 127.0)).tolist() == [0, 2, 2, 0, -2, 127, -128]


def test_an_activation_bounds_the_codes() -> None:
    codes = Codes("uint8", 6 / 255)
    assert codes.bounds((0.0, 6.0)) == (0.0, 255.0)
    assert codes.bounds((0.0, 3.0)) == (0.0, 128.0)
    assert codes.bounds((None, None)) == (0.0, 255.0)
    assert Codes("int8", 0.1).bounds((-1.0, None)) == (-10.0, 127.0)


def test_weights_have_a_step_for_each_output() -> None:
    weight = np.array([[1.0, -0.5], [100.0, 25.0], [0.0, 0.0]], np.float32)
    rows = quantized_rows(weight, np.array([0.25, -1.0, 0.0], np.float32), 0.5)
    assert rows.weight.tolist() == [[127, -64], [127, 32], [0, 0]]
    assert np.allclose(rows.steps[:2], [0.5 / 127, 0.5 * 100 / 127])
    assert rows.bias.tolist() == [64, -3, 0]


def test_a_large_bias_beside_small_weights_fits_32_bits() -> None:
    rows = quantized_rows(np.full((1, 4), 1e-12, np.float32), np.array([7.0], np.float32), 0.1)
    assert np.isclose(rows.bias[0] * rows.steps[0], 7.0)


def test_an_outlier_is_clipped_where_that_loses_less() -> None:
    counts = np.zeros(BINS)
    counts[: BINS // 2] = 1e4
    counts[-1] = 1
    assert Range(0.0, 1.0, counts).clipped(15) < 0.7
    assert Range(0.0, 1.0, np.ones(BINS)).clipped(255) > 0.95
    assert Range(0.0, 0.0).clipped(255) == 0


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 5, 3, stride=2, groups=1)
        self.fc = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        x = torch.nn.functional.max_pool2d(x, 2)
        return self.fc(self.second(x).mean((2, 3)))


def graph_of(module: nn.Module, images: torch.Tensor) -> Graph:
    graph = capture(module.eval(), (images[:1],))
    fuse(graph)
    return quantize(graph, find_ranges(graph, [images.numpy()]))


def test_the_reference_is_near_the_network() -> None:
    torch.manual_seed(0)
    module, images = Small(), torch.randn(16, 3, 12, 12)
    graph = graph_of(module, images)
    kinds = [node.kind for node in graph.nodes]
    assert kinds == ["quantize", "conv2d", "max_pool2d", "conv2d", "channel_mean", "linear"]
    with torch.no_grad():
        expected = module(images).numpy()
    results = [evaluate(graph, [image[None].numpy()])[graph.outputs[0]] for image in images]
    assert np.abs(np.concatenate(results) - expected).max() < 0.05 * np.abs(expected).max()


def test_images_of_one_number_show_no_range() -> None:
    with pytest.raises(InputError, match=r"Calibration images are 3\.5 throughout"):
        check_varied([np.full((2, 3, 12, 12), 3.5, np.float32)])


@pytest.mark.parametrize("images", [torch.randn(1, 3, 12, 12), torch.randn(8, 3, 12, 12) * 1e-35])
def test_whatever_the_ranges_there_is_an_answer(images: torch.Tensor) -> None:
    module = Small()
    with torch.no_grad():
        module.second.weight.zero_()
        module.second.bias.zero_()
    graph = graph_of(module, images)
    wanted = module.fc.bias.detach().numpy()
    answer = evaluate(graph, [np.ones((1, 3, 12, 12), np.float32)])[graph.outputs[0]]
    assert np.abs(answer - wanted).max() < 0.01


def test_ranges_add_up_whatever_the_order() -> None:
    torch.manual_seed(0)
    parts = [torch.randn(999) * scale for scale in (1e-3, 1.0, 40.0, 0.0)]
    forwards, backwards, joined = Range(), Range(), Range()
    for part in parts:
        forwards.add(part)
        one = Range()
        one.add(part)
        joined = joined.join(one)
    for part in reversed(parts):
        backwards.add(part)
    assert forwards.largest == backwards.largest == joined.largest
    assert forwards.counts.sum() == backwards.counts.sum() == joined.counts.sum() == 4 * 999
    assert np.array_equal(forwards.counts, joined.counts)
    assert np.abs(forwards.counts - backwards.counts).sum() < 100
