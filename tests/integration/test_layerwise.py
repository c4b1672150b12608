"""Layers held against PyTorch one by one, on arrays that stand for what a program made."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, fx, nn  # noqa: E402

from headgate.compile.front.capture import capture  # noqa: E402
from headgate.compile.front.fuse import fuse  # noqa: E402
from headgate.compile.front.graph import Graph  # noqa: E402
from headgate.compile.verify.layerwise import Difference, layer_differences  # noqa: E402
from headgate.train.gates.cgnet import CGNetConv2d  # noqa: E402
from tests.networks import conv_bn, randomise  # noqa: E402

X = torch.randn(1, 3, 9, 9, generator=torch.Generator().manual_seed(0))
Change = Callable[[np.ndarray], np.ndarray]


class Chain(nn.Module):
    """Four layers after fusing, the third of which reads the first and the second."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv_bn(3, 4), conv_bn(4, 4)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        x = torch.cat([x, self.second(x)], 1)
        return self.head(x.mean((2, 3)))


def graph_of(module: nn.Module) -> Graph:
    graph = capture(module.eval(), (X,))
    fuse(graph)
    return graph


def differences(graph: Graph, at: int = -1, change: Change | None = None) -> list[Difference]:
    """As if the program computed what PyTorch does, but for the layer ``at`` and what follows."""
    made: dict[fx.Node, Tensor] = {}
    results = {}

    class Replay(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            return made[n] if n in made else super().run_node(n)

    for index, node in enumerate(graph.nodes):
        origin = graph.origins[node.output]
        replay = Replay(graph.module, garbage_collect_values=False)
        with torch.no_grad():
            replay.run(X)
        array = replay.env[origin].numpy().reshape(node.output.shape)
        results[node.output] = change(array) if change and index == at else array
        made[origin] = torch.from_numpy(results[node.output])
    return layer_differences(graph, [X.numpy()], results)


def test_layers_that_are_right() -> None:
    torch.manual_seed(0)
    graph = graph_of(randomise(Chain()))
    found = differences(graph)
    assert [(one.path, one.operator) for one in found] == [
        (node.path, node.kind) for node in graph.nodes
    ]
    assert max(one.error for one in found) < 1e-6


@pytest.mark.parametrize("at", range(5))
def test_only_the_wrong_layer_differs(at: int) -> None:
    """What follows from it is right for what it was given."""
    torch.manual_seed(0)
    graph = graph_of(randomise(Chain()))
    assert len(graph.nodes) == 5
    found = differences(graph, at, lambda array: array * np.float32(1.5))
    assert [one.error > 1e-4 for one in found] == [index == at for index in range(5)]
    assert found[at].error == pytest.approx(0.5, rel=1e-3)


def test_a_layer_that_is_not_finite_differs() -> None:
    torch.manual_seed(0)
    found = differences(graph_of(randomise(Chain())), 0, lambda array: array * np.float32(np.nan))
    assert not found[0].error <= 1e-4


# Pixel gates, whose decisions fall inside a layer


def pixel_gated() -> tuple[Graph, int]:
    torch.manual_seed(0)
    conv, norm = conv_bn(4, 8)
    module = nn.Sequential(nn.Conv2d(3, 4, 1), CGNetConv2d(conv, norm, "1", partitions=2))
    graph = graph_of(randomise(module))
    return graph, [node.kind for node in graph.nodes].index("pixel_gated_conv2d")


def flipped(graph: Graph, at: int, count: int) -> Change:
    """The first ``count`` numbers as if their gate had fallen otherwise."""
    origin = graph.origins[graph.nodes[at].output]
    operator = torch.ops.headgate.pixel_gated_conv2d.default

    def computed(added: float) -> np.ndarray:
        class Shifted(fx.Interpreter):
            def call_function(self, target: object, args: tuple, kwargs: dict) -> object:
                if target is operator:
                    args = (*args[:3], args[3] + added, *args[4:])
                return super().call_function(target, args, kwargs)

        shifted = Shifted(graph.module, garbage_collect_values=False)
        with torch.no_grad():
            shifted.run(X)
        array: np.ndarray = shifted.env[origin].numpy()
        return array

    on, off = computed(torch.inf), computed(-torch.inf)

    def change(array: np.ndarray) -> np.ndarray:
        changed = array.copy().reshape(-1)
        decided = on.reshape(-1) == changed
        places = np.flatnonzero(on.reshape(-1) != off.reshape(-1))[:count]
        other = np.where(decided, off.reshape(-1), on.reshape(-1))
        changed[places] = other[places]
        return changed.reshape(array.shape)

    return change


def test_few_decisions_may_fall_otherwise() -> None:
    graph, at = pixel_gated()
    assert differences(graph, at, flipped(graph, at, 3))[at].error < 1e-6


def test_many_may_not() -> None:
    graph, at = pixel_gated()
    assert differences(graph, at, flipped(graph, at, 60))[at].error > 1e-3


def test_a_number_must_be_one_of_the_two() -> None:
    graph, at = pixel_gated()

    def change(array: np.ndarray) -> np.ndarray:
        changed = array.copy()
        changed.reshape(-1)[5] += np.abs(array).max()
        return changed

    assert differences(graph, at, change)[at].error > 1e-3
