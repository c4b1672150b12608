"""PyTorch's answers to the test vectors: named, repeatable, finite, and without side effects."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from headgate.compile.front.example import read_example, read_vectors  # noqa: E402
from headgate.compile.verify.reference import Reference, answer  # noqa: E402
from headgate.errors import CompileError  # noqa: E402
from headgate.train.gates import gate, gates  # noqa: E402
from headgate.train.gates.thresholds import calibrate  # noqa: E402

X = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0))


class Apply(nn.Module):
    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *tensors: Tensor) -> Any:
        return self.function(self, *tensors)


def answers(module: nn.Module, inputs: Any = X, vectors: Any = X) -> tuple[nn.Module, Reference]:
    example = read_example(module, inputs)
    return answer(module.eval(), example, read_vectors(vectors, example))


Pair = namedtuple("Pair", "mean peak")


@dataclass
class Output:
    logits: Tensor
    hidden: tuple[Tensor, ...]
    loss: Tensor | None = None


RESULTS = {
    "a tensor": (lambda _, x: x + 1, {"output": 1}, False),
    "a tuple": (lambda _, x: (x + 1, x + 2), {"output0": 1, "output1": 2}, False),
    "a tuple of one": (lambda _, x: (x + 1,), {"output": 1}, False),
    "a list in a tuple": (
        lambda _, x: (x + 1, [x + 2, x + 3]),
        {"output0": 1, "output1.0": 2, "output1.1": 3},
        False,
    ),
    "a dict": (lambda _, x: {"out": x + 1, "aux": x + 2}, {"out": 1, "aux": 2}, True),
    "a dict of one": (lambda _, x: {"out": x + 1}, {"out": 1}, True),
    "numbers as keys": (lambda _, x: {0: x + 1, 8: x + 2}, {"0": 1, "8": 2}, True),
    "a dict of tuples": (
        lambda _, x: {"boxes": (x + 1, x + 2), "last": x + 3},
        {"boxes.0": 1, "boxes.1": 2, "last": 3},
        True,
    ),
    "a named tuple": (lambda _, x: Pair(x + 1, x + 2), {"mean": 1, "peak": 2}, False),
    "a dataclass": (
        lambda _, x: Output(x + 1, (x + 2, x + 3)),
        {"logits": 1, "hidden.0": 2, "hidden.1": 3},
        True,
    ),
    "None beside a tensor": (lambda _, x: (None, x + 1), {"output1": 1}, False),
    "the input": (lambda _, x: (x, x + 1), {"output0": 0, "output1": 1}, False),
    "one tensor twice": (lambda _, x: [x + 1] * 2, {"output0": 1, "output1": 1}, False),
}


@pytest.mark.parametrize(("function", "wanted", "table"), RESULTS.values(), ids=RESULTS.keys())
def test_results_have_names(function: Any, wanted: dict[str, int], table: bool) -> None:
    module, reference = answers(Apply(function))
    assert reference.table is table
    assert list(reference.outputs) == list(wanted)
    for name, added in wanted.items():
        np.testing.assert_array_equal(reference.outputs[name], X.numpy() + np.float32(added))
    # What is compiled returns tensors alone, in the same order, under torch.export too.
    exported = torch.export.export(module, (X[:1],)).module()
    for result in (module(X[:1]), exported(X[:1])):
        flat = (result,) if isinstance(result, Tensor) else result
        for tensor, added in zip(flat, wanted.values(), strict=True):
            assert torch.equal(tensor, X[:1] + added)


def test_a_parameter_among_the_results() -> None:
    anchors = nn.Parameter(torch.rand(1, 7, 4))
    _, reference = answers(Apply(lambda s, x: (x, s.anchors), anchors=anchors))
    np.testing.assert_array_equal(reference.outputs["output1"], anchors.detach().repeat(3, 1, 1))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda _, x: {"a": x, "index": x.argmax(1)}, "'index' .* of type int64; .*float32"),
        (lambda _, x: (x, x > 0), "'output1' .* of type bool"),
        (lambda _, x: x.double(), "'output' .* of type float64"),
        (lambda _, x: (x, 3), "'output1' .* of type int; a bundle gives tensors"),
        (lambda _, x: {"a": x, "b": "cat"}, "'b' .* of type str"),
        (lambda _, x: x.sum(), r"'output' .* shape \(\) for one sample"),
        (lambda _, x: (x, x[0]), r"'output1' .* shape \(4, 5, 5\) for one sample"),
        (lambda _, x: (x, x[:, :0]), r"'output1' .* shape \(1, 0, 5, 5\)"),
        (lambda _, x: None, "returns no tensor"),
        (lambda _, x: [x] * 17, "returns 17 tensors; a bundle has at most 16"),
        (lambda _, x: {1: x, "1": x}, "two entries of one name"),
    ],
)
def test_results_that_no_bundle_gives(function: Any, message: str) -> None:
    with pytest.raises(CompileError, match=message) as caught:
        answers(Apply(function))
    assert "\n" not in str(caught.value)


def test_inputs_by_name() -> None:
    class Blend(nn.Module):
        def forward(self, image: Tensor, *, gain: Tensor) -> dict[str, Tensor]:
            return {"out": image * gain}

    inputs = {"gain": X + 1, "image": X}
    module, reference = answers(Blend(), inputs, inputs)
    np.testing.assert_array_equal(reference.outputs["out"], (X * (X + 1)).numpy())
    exported = torch.export.export(module, (X[:1], X[:1] + 1)).module()
    assert torch.equal(exported(X[:1], X[:1] + 1)[0], X[:1] * (X[:1] + 1))


def test_the_paths_of_modules_stay_as_they_are() -> None:
    module, _ = answers(Apply(lambda s, x: {"y": s.conv(x)}, conv=nn.Conv2d(4, 2, 3)))
    program = torch.export.export(module, (X[:1],))
    assert list(program.state_dict) == ["conv.weight", "conv.bias"]
    stack = next(n.meta["nn_module_stack"] for n in program.graph.nodes if n.op == "call_function")
    assert list(stack.values())[-1][0] == "conv"


# Side effects


def halve(_: nn.Module, x: Tensor) -> Tensor:
    x -= 0.5
    x *= 0.5
    return x


def test_inputs_changed_in_place() -> None:
    vectors = X.numpy().copy()
    example = read_example(Apply(halve), X)
    inputs = read_vectors(vectors, example)
    _, reference = answer(Apply(halve), example, inputs)
    np.testing.assert_array_equal(vectors, X.numpy())
    np.testing.assert_array_equal(inputs[0], X.numpy())
    np.testing.assert_array_equal(reference.outputs["output"], ((X - 0.5) * 0.5).numpy())


def test_thresholds_are_found_without_changing_the_images() -> None:
    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential(
                nn.Conv2d(4, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
            )

        def forward(self, x: Tensor) -> Tensor:
            x -= 0.5
            return self.block(x)

    images = X.clone()
    gated = gate(Normalised(), method="dcp", density=0.5)
    assert gates(gated)
    calibrate(gated, [images])
    assert torch.equal(images, X)


def test_buffers_that_count_are_left_alone() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x * 2

    module, reference = answers(Counting())
    np.testing.assert_array_equal(reference.outputs["output"], (X * 2).numpy())
    assert module.calls.item() == 0


class Stateful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("state", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        self.state *= 2
        return x * self.state


@pytest.mark.parametrize("module", [Stateful(), Apply(lambda _, x: F.dropout(x, 0.5))])
def test_answers_that_change_from_call_to_call(module: nn.Module) -> None:
    with pytest.raises(CompileError, match="answers the same input differently the second time"):
        answers(module)


def test_shapes_that_follow_the_input() -> None:
    with pytest.raises(CompileError, match="tensors of other shapes for test vector 1"):
        answers(Apply(lambda _, x: x[x > 0][None]))


# NaN and infinity


def broken() -> nn.Conv2d:
    conv = nn.Conv2d(4, 4, 3)
    conv.weight.data[0, 0, 0, 0] = torch.inf
    return conv


LOG = Apply(lambda _, x: x.log())


@pytest.mark.parametrize(
    ("module", "where"),
    [
        (nn.Sequential(nn.Identity(), nn.Sequential(broken())), r"module '1.0' \(Conv2d\), whose "),
        (
            nn.Sequential(nn.ReLU(), LOG, nn.Tanhshrink()),
            r"module '1' \(Apply\)",
        ),
        (nn.Sequential(Apply(lambda _, x: x.log_())), r"module '0' \(Apply\)"),
        (Apply(lambda _, x: {"y": x / 0}), "its own forward"),
    ],
)
def test_reference_that_is_not_finite(module: nn.Module, where: str) -> None:
    with pytest.raises(CompileError, match=f"test vector 0 is NaN or infinite.*{where}") as caught:
        answers(module)
    assert "\n" not in str(caught.value)


def test_only_what_comes_out_must_be_finite() -> None:
    """Attention masks with minus infinity and softmax them away."""
    module = Apply(lambda _, x: x.masked_fill(x < 0, -torch.inf).amax(1).clamp(min=0))
    _, reference = answers(module)
    assert np.isfinite(reference.outputs["output"]).all()


def test_a_network_that_fails() -> None:
    with pytest.raises(CompileError, match=r"Conv2d fails in PyTorch on one sample of \(1, 4,"):
        answers(nn.Conv2d(3, 4, 3))
