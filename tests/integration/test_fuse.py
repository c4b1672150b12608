"""Fusing changes the nodes and not the numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

from headgate.compile.front.capture import capture
from headgate.compile.front.fuse import fuse
from headgate.compile.front.graph import Graph, keeps_zero
from headgate.train.gates import gate
from headgate.train.pruning.operators import PlaceChannels
from tests.graphs import evaluate, kinds
from tests.networks import conv_bn, randomise


class Two(nn.Module):
    """Two convolutions with batch norm, combined by ``join(first, second, x)``."""

    def __init__(self, join) -> None:
        super().__init__()
        self.first, self.second = conv_bn(4, 4), conv_bn(4, 4)
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        return self.join(self.first, self.second, x)


def fused(module: nn.Module, *shape: int) -> Graph:
    """The fused graph, which computes what PyTorch does in float64."""
    shape = shape or (4, 7, 6)
    graph = capture(module, (torch.randn(1, *shape),))
    fuse(graph)
    assert "affine" not in kinds(graph)
    torch.manual_seed(1)
    x = torch.randn(3, *shape, dtype=torch.float64)
    with torch.no_grad():
        expected = module.double()(x).numpy()
    np.testing.assert_allclose(evaluate(graph, x), expected, rtol=1e-5, atol=2e-6)
    return graph


def two(join, density: float | None = None, layers: list[str] | None = None) -> nn.Module:
    torch.manual_seed(0)
    module = randomise(Two(join))
    return module if density is None else gate(module, density=density, layers=layers).eval()


def test_batch_norm_goes_into_the_convolution() -> None:
    graph = fused(two(lambda first, second, x: second(F.relu(first(x)))))
    assert kinds(graph) == ["conv2d", "conv2d"]
    assert [node["clamp"] for node in graph.nodes] == [(0.0, None), (None, None)]


def test_batch_norm_of_a_linear_layer() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.BatchNorm1d(5), nn.ReLU())
    graph = fused(randomise(module), 12)
    assert kinds(graph)[-1] == "linear"
    assert graph.nodes[-1]["clamp"] == (0.0, None)


@pytest.mark.parametrize("shape", [(4, 7, 6), (4,), (4, 9)])
def test_batch_norm_without_a_convolution_is_an_expression(shape: tuple[int, ...]) -> None:
    norm = nn.BatchNorm2d(4) if len(shape) == 3 else nn.BatchNorm1d(4)
    graph = capture(randomise(nn.Sequential(nn.ReLU(), norm)), (torch.randn(1, *shape),))
    fuse(graph)
    assert kinds(graph) == ["clamp", "compute"]
    assert [value.shape for value in graph.nodes[1].inputs[1:]] == [(4,), (4,)]


def test_residual_and_activation() -> None:
    graph = fused(two(lambda first, second, x: F.relu(second(F.relu(first(x))) + x)))
    assert kinds(graph) == ["conv2d", "conv2d"]
    last = graph.nodes[1]
    assert last["residual"]
    assert last["clamp"] == (0.0, None)
    assert last.inputs == [graph.nodes[0].output, graph.inputs[0]]


def test_sum_goes_into_the_gated_convolution() -> None:
    """Whichever side it is on: a gated sum visits its active channels only."""
    for layers in (["first*"], ["second*"]):
        module = two(lambda first, second, x: first(x) + second(x), 0.5, layers)
        graph = fused(module)
        (last,) = (node for node in graph.nodes if node.attributes.get("residual"))
        assert last.kind == "gated_conv2d"


def test_a_sum_of_itself_is_not_fused() -> None:
    def join(first, second, x):
        y = first(x)
        return second(y + y)

    assert kinds(fused(two(join))) == ["conv2d", "add", "conv2d"]


def test_what_two_read_is_not_fused() -> None:
    def join(first, second, x):
        y = first(x)
        return second(F.relu(y)) + y

    graph = fused(two(join))
    assert kinds(graph) == ["conv2d", "clamp", "conv2d"]


def test_activation_before_the_sum_stays_before_it() -> None:
    graph = fused(two(lambda first, second, x: F.relu(second(first(x))) + x))
    assert kinds(graph) == ["conv2d", "conv2d", "add"]
    assert not graph.nodes[1]["residual"]


def test_two_activations_in_a_row() -> None:
    graph = fused(two(lambda first, second, x: torch.clamp(F.relu(second(first(x))), -1, 0.5)))
    assert kinds(graph) == ["conv2d", "conv2d", "clamp"]


def test_gate_comes_before_its_convolution() -> None:
    module = two(lambda first, second, x: F.relu(second(F.relu(first(x))) + x), 0.5)
    graph = fused(module)
    place = {node.output: i for i, node in enumerate(graph.nodes)}
    for i, node in enumerate(graph.nodes):
        assert all(place.get(value, -1) < i for value in node.inputs)
    gated = [node for node in graph.nodes if node.kind == "gated_conv2d"]
    assert [node["clamp"] for node in gated] == [(0.0, None)] * 2
    assert [node["residual"] for node in gated] == [False, True]


def test_activation_that_moves_zero_is_not_fused_into_a_gate() -> None:
    """Skipped channels are zero; behind this activation they would not be."""

    def join(first, second, x):
        return second(torch.clamp(first(x), 0.25, 2.0))

    assert kinds(fused(two(join))) == ["conv2d", "conv2d"]
    graph = fused(two(join, 0.5))
    assert "clamp" in kinds(graph)[kinds(graph).index("gated_conv2d") :]


def pruned(join) -> nn.Module:
    """The second layer has three channels left; a constant stands for the other."""
    module = Two(join)
    place = PlaceChannels(torch.tensor([0.0, 0.75, 0.0, 0.0]), [0, 2, 3])
    module.second = nn.Sequential(*conv_bn(4, 3), place)
    torch.manual_seed(0)
    return randomise(module)


def test_placing_goes_into_the_convolution() -> None:
    """Behind batch norm, and before a residual sum and its activation."""
    graph = fused(pruned(lambda first, second, x: F.relu(second(F.relu(first(x))) + x)))
    assert kinds(graph) == ["conv2d", "conv2d"]
    last = graph.nodes[1]
    assert last["placed"] == (0, 2, 3)
    assert last["weight"].shape[0] == 3
    assert last["constant"].tolist() == [0.0, 0.75, 0.0, 0.0]
    assert last["residual"]
    assert last["clamp"] == (0.0, None)


def test_placing_twice() -> None:
    """Only one of both can be the convolution's own."""

    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 2, 1)
            self.inner = PlaceChannels(torch.tensor([0.0, 0.5, 0.0]), [0, 2])
            self.outer = PlaceChannels(torch.tensor([0.25, 0.0, 0.0, 0.0]), [1, 2, 3])

        def forward(self, x: Tensor) -> Tensor:
            return self.outer(self.inner(self.conv(x)))

    graph = fused(Again().eval())
    assert kinds(graph) == ["conv2d", "conv2d"]
    assert graph.nodes[0]["placed"] == (0, 2)
    assert "placed" not in graph.nodes[1].attributes


class Placing(nn.Module):
    """``join(module, x)`` with a convolution, a depthwise one and a placement of four channels."""

    def __init__(self, join) -> None:
        super().__init__()
        self.first, self.depthwise = conv_bn(4, 4), conv_bn(4, 4, groups=4)
        self.place = PlaceChannels(torch.tensor([0.0, 0.5, 0.0, 0.0, 0.0]), [0, 2, 3, 4])
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        return self.join(self, x)


def two_readers(module: Placing, x: Tensor) -> Tensor:
    y = module.first(x)
    return torch.cat([module.depthwise(y), module.place(y)], 1)


@pytest.mark.parametrize(
    ("join", "layers"),
    [
        (lambda module, x: module.place(F.relu(module.first(x))), []),
        (lambda module, x: module.place(module.depthwise(x)), []),
        (lambda module, x: module.place(module.first(x)), ["first*"]),
        (two_readers, []),
    ],
    ids=["behind an activation", "depthwise", "gated", "two readers"],
)
def test_placing_that_no_convolution_takes_becomes_one(join, layers: list[str]) -> None:
    torch.manual_seed(0)
    module = randomise(Placing(join))
    graph = fused(gate(module, layers=layers).eval() if layers else module)
    (placing,) = (n for n in graph.nodes if n.kind == "conv2d" and n.output.channels == 5)
    assert placing["weight"].shape == (5, 4, 1, 1)
    assert not any("placed" in node.attributes for node in graph.nodes)


@pytest.mark.parametrize("options", [{}, {"shuffle": True, "separate_norms": True}])
def test_sum_and_activation_go_into_the_pixel_gate(options: dict[str, bool]) -> None:
    module = two(lambda first, second, x: F.relu(second(F.relu(first(x))) + x))
    module = gate(module, method="cgnet", partitions=2, **options).eval()
    graph = fused(module)
    assert kinds(graph) == ["pixel_gated_conv2d"] * 2
    assert [node["clamp"] for node in graph.nodes] == [(0.0, None)] * 2
    assert [node["residual"] for node in graph.nodes] == [False, True]


@pytest.mark.parametrize(
    ("clamp", "expected"),
    [
        ((None, None), True),
        ((0.0, None), True),
        ((0.0, 6.0), True),
        ((-1.0, 1.0), True),
        ((0.5, None), False),
        ((None, -0.5), False),
    ],
)
def test_keeps_zero(clamp: tuple[float | None, float | None], expected: bool) -> None:
    assert keeps_zero(clamp) is expected


def test_mean_of_absolute_values_is_one_node() -> None:
    graph = fused(two(lambda first, second, x: first(x).abs().mean((2, 3))))
    assert kinds(graph) == ["conv2d", "channel_mean"]
    assert graph.nodes[1]["absolute"]
