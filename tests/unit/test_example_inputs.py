"""What a network is compiled with: example inputs, test vectors, the module itself."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from headgate.compile.front.example import read_example, read_vectors  # noqa: E402
from headgate.compile.front.prepare import prepare  # noqa: E402
from headgate.errors import CompileError, HeadgateError, InputError, UsageError  # noqa: E402

X = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0))


class Blend(nn.Module):
    """Two inputs, one of them by keyword only."""

    def forward(self, image: Tensor, other: Tensor | None = None, *, gain: Tensor) -> Tensor:
        return image * gain if other is None else image * gain + other


def conv() -> nn.Conv2d:
    return nn.Conv2d(4, 6, 3).eval()


def one_line(error: pytest.ExceptionInfo[HeadgateError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("inputs", [X, X[:1], X.double(), X.numpy(), (X,), [X.numpy()]])
def test_the_first_sample_as_float32(inputs: Any) -> None:
    example = read_example(conv(), inputs)
    assert example.names == ("input",)
    assert not example.by_name
    assert torch.equal(example.samples[0], X[:1])
    assert example.samples[0].data_ptr() != X.data_ptr()


def test_inputs_by_name_come_in_the_order_of_the_parameters() -> None:
    example = read_example(Blend(), {"gain": X + 1, "image": X})
    assert example.names == ("image", "gain")
    assert example.by_name
    assert torch.equal(example.samples[1], X[:1] + 1)


def test_names_of_positional_inputs() -> None:
    class Any_(nn.Module):
        def forward(self, first: Tensor, *rest: Tensor) -> Tensor:
            return first + rest[0]

    assert read_example(Any_(), (X, X, X)).names == ("first", "rest0", "rest1")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (None, "of type NoneType; give one tensor"),
        ("cat.png", "of type str; give one tensor"),
        ((), "empty"),
        ({}, "empty"),
        ((X, X), r"Conv2d.forward takes \(input\), not 2 example inputs"),
        ({"x": X}, r"Conv2d.forward takes \(input\), not x"),
        (([X, X],), "'input' is of type list, not a tensor"),
        ((None,), "'input' is of type NoneType"),
        (X[:0], r"shape \(0, 4, 5, 5\); give at least one sample"),
        (torch.tensor(1.0), r"shape \(\); give at least one sample"),
        (X.int(), "of type int32; headgate compiles networks of float32 inputs"),
        (X > 0, "of type bool"),
        (X.int().numpy(), "of type int32"),
        (X.to(torch.complex64), "of type complex64"),
        (X.to_sparse(), "give a dense tensor"),
    ],
)
def test_example_inputs_that_are_none(inputs: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_example(conv(), inputs)
    one_line(caught)


@pytest.mark.parametrize(
    "vectors",
    [X, X.numpy(), [X], (X.numpy(),), list(X), X.tolist(), {"input": X}, X.double().numpy()],
)
def test_vectors_in_any_form(vectors: Any) -> None:
    (array,) = read_vectors(vectors, read_example(conv(), X))
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, X.numpy())
    assert not np.shares_memory(array, X.numpy())


def test_vectors_for_several_inputs() -> None:
    example = read_example(Blend(), {"image": X, "gain": X})
    for vectors in ([X, X + 1], {"gain": X + 1, "image": X}):
        image, gain = read_vectors(vectors, example)
        np.testing.assert_array_equal(image, X.numpy())
        np.testing.assert_array_equal(gain, X.numpy() + 1)


def test_random_vectors_are_the_same_each_time() -> None:
    example = read_example(conv(), X)
    first, second = read_vectors(None, example), read_vectors(None, example)
    np.testing.assert_array_equal(first[0], second[0])
    assert first[0].shape == (8, 4, 5, 5)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (X[:0], "no test vectors"),
        ([], "no test vectors"),
        (X[:, :2], r"shape \(3, 2, 5, 5\), the network's input 'input' \(1, 4, 5, 5\)"),
        ([X, X], "the network's input 'input'"),
        ({"x": X}, "given for x, the network's inputs are input"),
        (X * torch.nan, "Test vector 0 of input 'input' holds NaN or infinity"),
        (X.double().numpy() * 1e300, "holds NaN or infinity"),
        (["cat.png"], "no array of numbers"),
        (X.numpy() * 1j, "no array of numbers"),
        (5, "no array of numbers|shape"),
    ],
)
def test_vectors_that_do_not_fit(vectors: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_vectors(vectors, read_example(conv(), X))
    one_line(caught)


def test_vectors_that_do_not_fit_several_inputs() -> None:
    example = read_example(Blend(), {"image": X, "gain": X})
    with pytest.raises(InputError, match=r"1 arrays of test vectors .* has 2 inputs: image, gain"):
        read_vectors([X], example)
    with pytest.raises(InputError, match=r"unequal number: \[3, 2\]"):
        read_vectors([X, X[:2]], example)


# The module


def test_a_copy_is_compiled() -> None:
    module = nn.Sequential(conv(), nn.BatchNorm2d(6)).eval()
    before = copy.deepcopy(module.state_dict())
    own = prepare(module)
    for parameter in own.parameters():
        parameter.data.zero_()
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
@pytest.mark.parametrize("inside", [False, True])
def test_wrapped_networks(wrap: Any, inside: bool) -> None:
    plain = nn.Sequential(conv(), nn.ReLU())
    wrapped = wrap(plain) if not inside else nn.Sequential(wrap(plain[0]), plain[1])
    own = prepare(wrapped.eval())
    assert list(own.state_dict()) == ["0.weight", "0.bias"]
    assert [type(part) for part in own.modules()] == [nn.Sequential, nn.Conv2d, nn.ReLU]
    assert torch.equal(own(X), plain(X))


def test_a_module_wrapped_under_two_names() -> None:
    wrapped = nn.DataParallel(nn.Linear(5, 5))
    own = prepare(nn.ModuleDict({"a": wrapped, "b": wrapped}).eval())
    assert own["a"] is own["b"]
    assert isinstance(own["a"], nn.Linear)


def test_tensors_with_a_gradient_do_not_keep_a_network_from_being_copied() -> None:
    module = nn.Sequential(nn.utils.weight_norm(conv())).eval()
    assert not module[0].weight.is_leaf
    own = prepare(module)
    assert torch.allclose(own(X), module(X))


class Locked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lines = (line for line in "ab")  # what deepcopy cannot copy


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(conv(), nn.Dropout()).train(), "The network is in training mode; call eval"),
        (nn.Sequential(conv(), nn.Dropout().train()), "training mode"),
        (conv().half(), "'weight' is of type float16"),
        (conv().double(), "'weight' is of type float64"),
        (torch.jit.script(conv()), "ScriptModule; give the nn.Module that it was made from"),
        (nn.LazyLinear(3).eval(), "'weight' has no values yet"),
        (nn.Linear(3, 3, device="meta").eval(), "'weight' has no values yet"),
        (Locked().eval(), "Locked cannot be copied"),
    ],
)
def test_networks_that_cannot_be_compiled(module: nn.Module, message: str) -> None:
    with pytest.raises(CompileError, match=message) as caught:
        prepare(module)
    one_line(caught)


@pytest.mark.parametrize("module", [lambda x: x, {"weight": X}, nn.Linear])
def test_what_is_no_network(module: Any) -> None:
    with pytest.raises(UsageError, match=r"takes an nn\.Module, not a") as caught:
        prepare(module)
    one_line(caught)
