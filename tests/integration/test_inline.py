"""Expressions are computed where they are read, and only there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

from headgate.compile.front.capture import capture
from headgate.compile.front.fuse import fuse
from headgate.compile.front.graph import Graph
from headgate.compile.front.inline import LARGEST
from headgate.compile.kernels.expression import Expression
from headgate.device.tensor_type import TensorType
from tests.graphs import kinds


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def fused(function: Callable[[Tensor], Tensor], *shape: int) -> Graph:
    graph = capture(Function(function).eval(), (torch.randn(1, *shape),))
    fuse(graph)
    return graph


@pytest.mark.parametrize(
    ("function", "loops"),
    [
        (lambda x: F.silu(x.flip(1)[:, 1:] * 2) + 1, 1),
        (lambda x: torch.relu(x.sigmoid() + x.tanh()), 1),
        (lambda x: F.interpolate(x, size=(9, 5), mode="bilinear").exp(), 4),
        # A reduction reads each number once, and is read where it is whole.
        (lambda x: (x * 2).sum(2).exp(), 2),
        (lambda x: x.softmax(3), 4),
        # Read twice, or read again and again: computed once.
        (lambda x: (lambda y: y * y.flip(3))(x.exp()), 2),
        (lambda x: x.exp().sum(1, keepdim=True).log().expand(1, 4, 6, 8).exp(), 3),
    ],
)
def test_loops(function: Callable[[Tensor], Tensor], loops: int) -> None:
    assert kinds(fused(function, 4, 6, 8)) == ["compute"] * loops


def test_a_long_chain_is_cut() -> None:
    def chain(x: Tensor) -> Tensor:
        for _ in range(2 * LARGEST):
            x = x.sin()
        return x

    assert len(fused(chain, 4, 6, 8).nodes) == 2


def test_what_was_moved_is_computed_once() -> None:
    """A value that an expression uses three times has a name there."""
    (node,) = fused(lambda x: F.gelu(F.gelu(F.gelu(x))), 4, 6, 8).nodes
    operands = [value.type for value in node.inputs]
    kernel = Expression.from_element(node["element"], operands, node.output.type)
    assert str(kernel.function).count("erff") == 3


def test_equal_expressions_are_one_kernel() -> None:
    def kernel(factor: float, shape: tuple[int, ...]) -> Expression:
        tensor = TensorType(shape)
        return Expression.from_element(
            lambda readers, *i: readers[0](*i) * factor, [tensor], tensor
        )

    assert kernel(2.0, (1, 4)) == kernel(2.0, (1, 4))
    assert hash(kernel(2.0, (1, 4))) == hash(kernel(2.0, (1, 4)))
    assert kernel(2.0, (1, 4)) != kernel(3.0, (1, 4))
    assert kernel(2.0, (1, 4)) != kernel(2.0, (1, 5))
