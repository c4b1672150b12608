"""From PyTorch to the graph: nodes and constants, and the same numbers in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

from headgate.compile.front.capture import capture
from headgate.compile.front.graph import KINDS, Graph, Value
from headgate.compile.front.operators import OPERATORS
from headgate.compile.front.prepare import prepare
from headgate.compile.front.reading import Call
from headgate.errors import CompileError, UnsupportedOperator
from headgate.train.gates import gate
from tests.graphs import evaluate, kinds
from tests.networks import Apply, conv_bn, network, randomise


def graph_of(module: nn.Module, *shapes: tuple[int, ...]) -> Graph:
    torch.manual_seed(0)
    return capture(module.eval(), tuple(torch.randn(1, *shape) for shape in shapes))


def test_convolution_and_batch_norm() -> None:
    graph = graph_of(randomise(conv_bn(3, 5, stride=2)), (3, 9, 8))
    assert kinds(graph) == ["conv2d", "affine"]
    conv = graph.nodes[0]
    assert conv["stride"] == (2, 2)
    assert conv["padding"] == (1, 1, 1, 1)
    assert conv["weight"].shape == (5, 3, 3, 3)
    assert (conv.path, graph.nodes[1].path) == ("0", "1")
    assert [value.shape for value in graph.inputs] == [(1, 3, 9, 8)]
    assert [value.shape for value in graph.outputs] == [(1, 5, 5, 4)]


def test_gated_convolution_keeps_its_order() -> None:
    """Mean, predictor, ReLU, top k, then the convolution that they gate."""
    module = gate(randomise(conv_bn(3, 6)), density=0.5).eval()
    graph = graph_of(module, (3, 8, 8))
    assert kinds(graph) == [
        "channel_mean",
        "linear",
        "clamp",
        "keep_top_k",
        "gated_conv2d",
    ]
    top, conv = graph.nodes[-2:]
    assert top["k"] == 3
    assert conv.inputs == [graph.inputs[0], top.output]
    assert conv["shift"].shape == (6,)


@pytest.mark.parametrize(
    "options", [{"variant": "paper"}, {"normalise": True}, {"act": "identity"}]
)
def test_every_sort_of_gate_is_read(options: dict) -> None:
    module = gate(randomise(conv_bn(3, 6)), density=0.5, **options).eval()
    graph = graph_of(module, (3, 8, 8))
    assert graph.nodes[-1].kind == "gated_conv2d"
    assert set(kinds(graph)) <= set(KINDS)


@pytest.mark.parametrize("name", ["branches", "inverted"])
@pytest.mark.parametrize("density", [None, 0.5])
def test_same_numbers_as_pytorch(name: str, density: float | None) -> None:
    module, shape = network(name, density)
    graph = graph_of(module, shape)
    x = torch.randn(2, *shape, dtype=torch.float64)
    with torch.no_grad():
        expected = module.double()(x).numpy()
    np.testing.assert_allclose(evaluate(graph, x), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (F.relu, ["clamp"]),
        (F.relu6, ["clamp"]),
        (lambda x: torch.clamp(x, -1.0, 2.0), ["clamp"]),
        (lambda x: F.max_pool2d(x, 2), ["max_pool2d"]),
        (lambda x: F.avg_pool2d(x, 3, 2, 1), ["avg_pool2d"]),
        (lambda x: F.avg_pool2d(x, x.shape[2:]), ["channel_mean"]),
        (lambda x: F.avg_pool2d(x, x.shape[2:], 1, 1), ["avg_pool2d"]),
        (lambda x: F.adaptive_avg_pool2d(x, 2), ["avg_pool2d"]),
        (lambda x: F.adaptive_avg_pool2d(x, 1), ["channel_mean"]),
        (lambda x: x.mean((2, 3)), ["channel_mean"]),
        (lambda x: x.abs().mean((2, 3)), ["compute", "channel_mean"]),
        (lambda x: torch.cat([x, x], 1), ["concat"]),
        (lambda x: x + F.relu(x), ["clamp", "add"]),
        (lambda x: x.flatten(1), ["reshape"]),
        (lambda x: x * 2 + 1, ["affine", "affine"]),
        (lambda x: x.chunk(2, 1)[1], ["compute"]),
        (torch.sigmoid, ["compute"]),
        (lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True), ["avg_pool2d", "compute"]),
        (lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), ["avg_pool2d", "compute"]),
        (lambda x: x.mean(), ["compute", "compute"]),
    ],
)
def test_operators(function, expected: list[str]) -> None:
    graph = graph_of(Apply(function), (4, 8, 8))
    assert kinds(graph) == ["conv2d", *expected]


def test_what_nobody_reads_is_left_out() -> None:
    def forward(x: Tensor) -> Tensor:
        F.softmax(x, 1)
        return x

    assert kinds(graph_of(Apply(forward), (4, 8, 8))) == ["conv2d"]


# What cannot be compiled


@torch.library.custom_op("headgate_tests::twist", mutates_args=())
def twist(x: Tensor) -> Tensor:
    """An operator that nobody but PyTorch knows."""
    return x * 2


@twist.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@pytest.mark.parametrize(
    ("function", "operator"),
    [(twist, "headgate_tests.twist"), (lambda x: torch.linalg.svd(x)[0], "aten._linalg_svd")],
)
def test_unsupported_operator_is_named_with_its_module(function, operator: str) -> None:
    module = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ModuleDict({"inner": Apply(function)})["inner"])
    with pytest.raises(UnsupportedOperator) as caught:
        graph_of(module, (4, 8, 8))
    message = str(caught.value)
    assert operator in message
    assert "module '1'" in message
    assert "convolution, pooling, linear, batch norm" in message
    assert "\n" not in message


def test_an_argument_that_a_handler_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(call: Call) -> Value:
        return call.node("add", [call["self"], call["other"]])

    monkeypatch.setitem(OPERATORS, "aten.add.Tensor", forgetful)
    graph_of(Apply(lambda x: torch.add(x, x)), (4, 8, 8))
    with pytest.raises(UnsupportedOperator, match=r"aten\.add\.Tensor .*with alpha=3"):
        graph_of(Apply(lambda x: torch.add(x, x, alpha=3)), (4, 8, 8))


def test_training_mode() -> None:
    with pytest.raises(CompileError, match=r"The network is in training mode; call eval\(\)"):
        prepare(conv_bn(4, 4).train())


def test_module_in_training_mode() -> None:
    module = conv_bn(4, 4).eval()
    module[1].train()
    with pytest.raises(CompileError, match="Module '1' is in training mode"):
        prepare(module)


class MadeAnew(nn.Module):
    """Copies itself by its constructor, as einops' layers do."""

    def __getstate__(self) -> dict:
        return {}

    def __setstate__(self, state: dict) -> None:
        self.__init__()  # type: ignore[misc]

    def forward(self, x: Tensor) -> Tensor:
        return x + 1


def test_a_copy_that_is_made_anew_is_not_in_training_mode() -> None:
    assert not prepare(nn.Sequential(MadeAnew()).eval())[0].training


class Choose(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


def test_control_flow_on_data(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CompileError, match=r"cannot trace Choose: .*torch\.where") as caught:
        graph_of(Choose(), (4, 8, 8))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_shapes_that_do_not_fit(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CompileError, match=r"cannot trace Apply: .*\(5 x 5\)") as caught:
        graph_of(Apply(lambda x: F.conv2d(x, torch.zeros(1, 6, 5, 5))), (4, 3, 3))
    assert "torch.where" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("dtype", "name"), [(torch.float64, "float64"), (torch.half, "float16")])
def test_other_types_of_numbers(dtype: torch.dtype, name: str) -> None:
    with pytest.raises(CompileError, match=f"'0.weight' is of type {name}.*module.float"):
        prepare(conv_bn(4, 4).eval().to(dtype))


def test_integer_results() -> None:
    with pytest.raises(CompileError, match="int64"):
        graph_of(Apply(lambda x: x.argmax(1)), (4, 8, 8))
