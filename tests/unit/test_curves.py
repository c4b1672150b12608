"""Formulas of elementwise functions: as numbers, and as curves over one tensor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

from headgate.compile.front.capture import capture
from headgate.compile.front.fuse import fuse
from headgate.compile.front.quantize.curves import Curve, find_curves
from headgate.compile.front.quantize.numbers import exponential, numbers_of

Function = Callable[[Tensor], Tensor]


class Only(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def curve_of(function: Function, x: Tensor) -> Curve | None:
    """That of the network's result, if it has one."""
    graph = capture(Only(function).eval(), (x,))
    fuse(graph)
    found = find_curves(graph).get(graph.outputs[0])
    assert found is None or found.root is graph.inputs[0]
    return found


def test_the_exponential_is_right_to_a_digit_and_ends_well() -> None:
    x = np.linspace(-87, 88.7, 100_003).astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    ulp = np.spacing(exact.astype(np.float32)).astype(np.float64)
    assert (np.abs(exponential(x) - exact) / ulp).max() < 1.2
    ends = exponential(np.array([0, np.inf, -np.inf, np.nan, -104, 89], np.float32))
    np.testing.assert_array_equal(ends, [1, np.inf, 0, np.nan, 0, np.inf])


@pytest.mark.parametrize(
    "function",
    [
        functional.hardswish,
        functional.silu,
        functional.gelu,
        functional.softplus,
        lambda x: functional.elu(x, 0.7),
        lambda x: functional.leaky_relu(x, 0.2),
        lambda x: torch.tanh(x) * torch.sigmoid(x),
        lambda x: torch.where(x > 0.5, x * x, torch.abs(x) - 2),
        lambda x: x / (1 + torch.exp(-x)) + torch.exp(-x),
        lambda x: x * torch.tensor([1.0, -2.0, 3.0]).reshape(1, 3, 1, 1) + 0.5,
    ],
)
def test_a_chain_of_functions_is_one_curve(function: Function) -> None:
    x = torch.linspace(-6, 6, 256).repeat(3, 1).reshape(1, 3, 16, 16)
    found = curve_of(function, x)
    assert found is not None
    wanted = function(x.double()).reshape(3, 256).numpy()
    rows = found.of(np.linspace(-6, 6, 256))
    np.testing.assert_allclose(np.broadcast_to(rows, (3, 256)), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.flip(3) + x,
        lambda x: x * torch.linspace(0, 1, 5),
        lambda x: x + x.mean((2, 3), keepdim=True),
        lambda x: torch.softmax(x, 1),
    ],
)
def test_what_reads_other_numbers_is_none(function: Function) -> None:
    assert curve_of(function, torch.randn(1, 3, 4, 5)) is None


@pytest.mark.parametrize(
    ("function", "always", "of_positive"),
    [(torch.sigmoid, True, True), (functional.hardswish, False, True), (torch.cos, False, False)],
)
def test_signs(function: Function, always: bool, of_positive: bool) -> None:
    found = curve_of(function, torch.randn(1, 3, 4, 5))
    assert found is not None
    assert (found.keeps_sign(False), found.keeps_sign(True)) == (always, of_positive)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.where(x > 0.1, 1.5 * torch.sigmoid(x), torch.zeros(())),
        lambda x: x.flip(2)[:, 1:] * torch.linspace(0, 1, 5) - x.abs().sqrt()[:, :2],
        lambda x: functional.pad(x, (1, 2, 0, 1), value=0.25).round() / 3,
    ],
)
def test_numbers_are_pytorchs(function: Function) -> None:
    x = torch.randn(1, 3, 4, 5)
    graph = capture(Only(function).eval(), (x,))
    fuse(graph)
    values = {graph.inputs[0]: x.numpy()}
    for node in graph.nodes:
        assert node.kind == "compute", node.kind
        read = [values[v] if v.data is None else v.data for v in node.inputs]
        values[node.output] = numbers_of(node["element"], read, node.output.shape)
    found = values[graph.outputs[0]]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, function(x).numpy(), rtol=1e-6, atol=1e-6)
