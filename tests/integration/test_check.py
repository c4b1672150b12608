"""A bundle is right before it exists: what is compiled runs on its own vectors first."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("tvm")

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headgate.cli import main
from headgate.compile import build, compile_module
from headgate.compile import module as front
from headgate.compile.backend import c_source as network
from headgate.compile.kernels.convolution import Epilogue
from headgate.compile.kernels.float.gating import ChannelMean
from headgate.compile.kernels.float.linear import Linear
from headgate.compile.kernels.float.planes import CopyPlanes
from headgate.compile.kernels.float.window import Depthwise
from headgate.compile.verify import check as checking
from headgate.device import Bundle, load, validate
from headgate.device.validation import sample_errors
from headgate.errors import CompileError, WrongResult
from headgate.train.gates import gate
from tests.networks import TwoScales, conv_bn, randomise
from tests.session_cache import lowered_as_users_do


class Small(nn.Module):
    """A convolution, a depthwise one, a concatenation and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 8)
        self.depthwise = conv_bn(8, 8, 3, groups=8)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = torch.cat([x, F.relu(self.depthwise(x))], 1)
        return self.head(x.mean((2, 3)))


X = torch.zeros(1, 3, 9, 9)


def small() -> nn.Module:
    torch.manual_seed(0)
    return randomise(Small())


# What is recorded


def test_checked_on_the_host() -> None:
    with lowered_as_users_do():
        bundle, again = (compile_module(small(), X) for _ in range(2))
    checked = bundle.manifest["checked"]
    assert checked == {
        "machine": "host",
        "vectors": 8,
        "max_error": checked["max_error"],
        "excused": 0,
    }
    assert 0 < checked["max_error"] < 1e-5
    assert checked["max_error"] == float(f"{checked['max_error']:.0e}")
    assert validate(bundle).passed
    assert again.to_bytes() == bundle.to_bytes()


def test_checked_in_the_emulator(qemu_aarch64: str) -> None:
    bundle = compile_module(small(), X, target="rpi4")
    assert bundle.manifest["checked"]["machine"] == "qemu:rpi4"
    assert bundle.manifest["checked"]["vectors"] == 8


def test_an_emulator_runs_fewer_vectors_of_a_large_network(
    qemu_aarch64: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    macs = sum(layer["dense_macs"] for layer in compile_module(small(), X).manifest["layers"])
    monkeypatch.setattr(checking, "EMULATED_MACS", 3 * macs)
    checked = compile_module(small(), X, target="rpi4").manifest["checked"]
    assert checked["vectors"] == 3
    monkeypatch.setattr(checking, "EMULATED_MACS", 1)
    checked = compile_module(small(), X, target="rpi4").manifest["checked"]
    assert checked["vectors"] == 1


def test_not_checked_for_want_of_an_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    found = shutil.which
    monkeypatch.setattr(
        shutil, "which", lambda name, *rest: None if "qemu" in name else found(name, *rest)
    )
    checked = compile_module(small(), X, target="rpi4").manifest["checked"]
    assert checked["machine"] is None
    assert "needs qemu-aarch64" in checked["reason"]


def test_not_checked_if_so_wished() -> None:
    bundle = compile_module(small(), X, check=False)
    assert bundle.manifest["checked"] == {"machine": None, "reason": "left out, as was asked for"}


def test_the_command_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "resnet8.hgb"
    assert main(["compile", "resnet8", "-o", str(path)]) == 0
    assert "on host: 8 vectors, largest error" in capsys.readouterr().out
    assert main(["compile", "resnet8", "-o", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["checked"]["vectors"] == 8
    assert main(["compile", "resnet8", "-o", str(path), "--no-check"]) == 0
    assert "not checked: left out" in capsys.readouterr().out
    assert Bundle.open(path).manifest["checked"]["machine"] is None


# Faults


def planted(monkeypatch: pytest.MonkeyPatch, kernel: type, other: Callable[[Any], Any]) -> None:
    """From now on ``kernel`` is built as another one with the same arguments would be."""
    build = kernel.build
    monkeypatch.setattr(kernel, "build", lambda self, name: build(other(self), name))


def changed(**values: Any) -> Callable[[Any], Any]:
    return lambda kernel: replace(kernel, **values)


FAULTS = {
    "linear": (Linear, changed(clamp=(0.0, None)), "'head' (linear)"),
    "depthwise": (Depthwise, changed(epilogue=Epilogue()), "'depthwise.0' (conv2d)"),
    "concat": (CopyPlanes, changed(offset=0), "(concat)"),
    "mean": (ChannelMean, changed(pixels=40), "(channel_mean)"),
}


@pytest.mark.parametrize(("kernel", "other", "layer"), FAULTS.values(), ids=FAULTS.keys())
def test_a_planted_fault_is_named(
    kernel: type, other: Callable[[Any], Any], layer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(monkeypatch, kernel, other)
    with pytest.raises(WrongResult, match="the first layer that differs is") as caught:
        compile_module(small(), X)
    assert layer in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_fault_is_named_in_the_emulator(
    qemu_aarch64: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(monkeypatch, *FAULTS["linear"][:2])
    with pytest.raises(WrongResult, match=r"first layer that differs is 'head' \(linear\)"):
        compile_module(small(), X, target="rpi4")


def test_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planted(monkeypatch, *FAULTS["linear"][:2])
    path = tmp_path / "resnet8.hgb"
    assert main(["compile", "resnet8", "-o", str(path)]) == 1
    assert "What was compiled of 'resnet8' is off by" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main(["compile", "resnet8", "-o", str(path), "--no-check"]) == 0
    assert not validate(path).passed


def test_a_fault_in_what_layers_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every buffer at the same place, unless all results are kept."""
    plan = network.plan_arena

    def overlapping(program: Any) -> Any:
        offsets, size = plan(program)
        if len(program.outputs) > 1:
            return offsets, size
        return dict.fromkeys(offsets, min(offsets.values())), size

    monkeypatch.setattr(network, "plan_arena", overlapping)
    with pytest.raises(WrongResult, match="each layer is right one by one"):
        compile_module(small(), X)


def test_a_program_that_crashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes no more than its own process with it."""
    source = build.generate

    def crashing(*arguments: Any) -> Any:
        made = source(*arguments)
        return replace(made, source=made.source.replace("char *a = arena;", "char *a = 0;"))

    monkeypatch.setattr(build, "generate", crashing)
    with pytest.raises(WrongResult, match=r"'small' crashes: .*killed by SIG"):
        compile_module(small(), X)


# Rounding


class Steep(nn.Module):
    """The sign of one sum decides, which some vectors put where only rounding is left of it."""

    def __init__(self) -> None:
        super().__init__()
        self.sums = nn.Conv2d(16, 4, 3, bias=False)
        self.sums.weight.data[0] = 1.0
        self.sums.weight.data[1:] *= 30  # beside these the rounding of the first is small

    def forward(self, x: Tensor) -> Tensor:
        return (self.sums(x)[:, :1] * 1e12).clamp(-1.0, 1.0)


STEEP = torch.zeros(1, 16, 3, 3)


def vectors(near: int, count: int = 24) -> np.ndarray:
    """(count, 16, 3, 3); the numbers of the first ``near`` cancel each other."""
    random = np.random.default_rng(0)
    x = random.normal(size=(count, 144)).astype(np.float32)
    x[:near, 72:] = -x[:near, :72]
    return random.permuted(x, axis=1).reshape(count, 16, 3, 3)


def test_a_vector_that_rounding_decides_is_left_out() -> None:
    torch.manual_seed(0)
    bundle = compile_module(Steep().eval(), STEEP, vectors=vectors(21))
    checked = bundle.manifest["checked"]
    # Two CPUs may round a few of them alike.
    assert 1 <= checked["excused"] <= 21
    assert checked["vectors"] == 24 - checked["excused"]
    assert checked["max_error"] <= 1e-4
    inputs, outputs = bundle.vectors()
    assert len(inputs[0]) == len(outputs[0]) == checked["vectors"]
    assert validate(bundle).passed


def test_rounding_excuses_no_network_as_a_whole() -> None:
    torch.manual_seed(0)
    module = Steep().eval()
    unchecked = compile_module(module, STEEP, vectors=vectors(40, 40), check=False)
    inputs, expected = unchecked.vectors()
    with load(unchecked) as program:
        decided = sample_errors(program.outputs(inputs), expected) > 1e-4
    assert decided.sum() > 3
    with pytest.raises(WrongResult, match="each layer is right: the network amplifies rounding"):
        compile_module(module, STEEP, vectors=inputs[0][decided])


class Chaotic(nn.Module):
    """Doubles any difference some thirty times."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.linear, self.steps = nn.Linear(12, 3), steps

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.linear(x.flatten(1)))
        for _ in range(self.steps):
            x = 4 * x * (1 - x)
        return x


@pytest.mark.parametrize(
    ("steps", "words"), [(30, "the network amplifies rounding"), (1, "the fault lies in how they")]
)
def test_two_programs_that_rounding_tells_apart_are_no_fault(
    monkeypatch: pytest.MonkeyPatch, steps: int, words: str
) -> None:
    """The results, and what follows from the layers' results, differ by three thousandths."""

    def apart(search: Any, index: int) -> tuple[list[Any], dict[Any, Any], list[np.ndarray]]:
        return [], {}, [array[index : index + 1] + 6e-3 for array in search._expected]

    monkeypatch.setattr(checking._Search, "_compare", apart)
    run = checking._run

    def off(*arguments: Any) -> tuple[np.ndarray, list[np.ndarray]]:
        errors, _ = run(*arguments)
        return errors * 0 + 3e-3, [wanted + 3e-3 for wanted in arguments[2]]

    monkeypatch.setattr(checking, "_run", off)
    torch.manual_seed(0)
    with pytest.raises(WrongResult, match=words):
        compile_module(Chaotic(steps).eval(), torch.zeros(1, 3, 2, 2))


class Cancelling(nn.Module):
    """A difference that is zero, but for rounding."""

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([x, x.flip(3)], 0).mean((2, 3))
        return both[:1] - both[1:]


def test_a_result_that_is_only_rounding_is_held_against_rounding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = torch.zeros(1, 3, 16, 16)
    bundle = compile_module(Cancelling().eval(), x)
    assert bundle.manifest["checked"]["vectors"] == 8
    assert 0 < bundle.manifest["outputs"][0]["scale"] < 0.1
    assert validate(bundle).passed
    planted(monkeypatch, ChannelMean, changed(pixels=250))
    with pytest.raises(WrongResult, match="channel_mean"):
        compile_module(Cancelling().eval(), x)


def test_rounding_excuses_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of many vectors shows it, as with a kernel that forgets a case."""
    planted(monkeypatch, Linear, changed(clamp=(-30.0, None)))
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()
    x = np.random.default_rng(0).normal(size=(8, 12)).astype(np.float32)
    x[5] *= 100
    with pytest.raises(WrongResult, match=r"test vector 5; the first layer .* '1' \(linear\)"):
        compile_module(module, torch.zeros(1, 12), vectors=x)


# Results


class Heads(nn.Module):
    """A dictionary, as segmentation and detection networks return it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = conv_bn(3, 6)
        self.anchors = nn.Parameter(torch.rand(1, 5, 4))

    def forward(self, x: Tensor) -> dict[str, object]:
        y = F.relu(self.body(x))
        return {"out": y, "aux": (y.mean((2, 3)), x), "anchors": self.anchors, "none": None}


def test_a_dict_of_results() -> None:
    torch.manual_seed(0)
    module = randomise(Heads())
    bundle = compile_module(module, X)
    assert bundle.manifest["results"] == "named"
    x = torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        wanted = module(x)
    with load(bundle) as program:
        got = program.run(x.numpy())
        assert list(got) == ["out", "aux.0", "aux.1", "anchors"]
        np.testing.assert_allclose(got["out"], wanted["out"], atol=1e-5)
        np.testing.assert_allclose(got["aux.0"], wanted["aux"][0], atol=1e-5)
        np.testing.assert_array_equal(got["aux.1"], x)
        np.testing.assert_array_equal(got["anchors"], module.anchors.detach().repeat(2, 1, 1))
        assert len(program.outputs(x.numpy())) == 4
    assert validate(bundle).passed


def test_one_tensor_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            y = self.conv(x)
            return y, y, x

    module = Twice().eval()
    x = torch.randn(1, 3, 9, 9)
    with load(compile_module(module, X)) as program, torch.no_grad():
        for got, wanted in zip(program.run(x.numpy()), module(x), strict=True):
            np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_inputs_by_name() -> None:
    torch.manual_seed(0)
    module = randomise(TwoScales())
    inputs = {"vector": torch.randn(1, 5), "image": torch.randn(1, 3, 6, 6)}
    bundle = compile_module(module, inputs)
    assert [tensor["name"] for tensor in bundle.manifest["inputs"]] == ["image", "vector"]
    with torch.no_grad():
        wanted = module(**inputs)
    with load(bundle) as program:
        got = program.run({name: tensor.numpy() for name, tensor in inputs.items()})
    for array, tensor in zip(got, wanted, strict=True):
        np.testing.assert_allclose(array, tensor, atol=1e-5)


# Side effects


class Normalising(nn.Module):
    """Changes its input in place, in two ways."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x -= 0.5
        x[:, 0].div_(0.25)
        return self.conv(x) + x[:, :1, 1:-1, 1:-1]


def test_an_input_changed_in_place() -> None:
    torch.manual_seed(0)
    module = Normalising().eval()
    mine = np.ones((2, 3, 9, 9), np.float32)
    example = torch.zeros(1, 3, 9, 9)
    bundle = compile_module(module, example, vectors=mine)
    assert (mine == 1).all()
    assert (example == 0).all()
    assert (bundle.vectors()[0][0] == 1).all()
    x = torch.randn(1, 3, 9, 9)
    with load(bundle) as program, torch.no_grad():
        np.testing.assert_allclose(program.run(x.numpy()), module(x.clone()), atol=1e-5)


def test_the_network_is_left_as_it_was() -> None:
    module = gate(small(), method="fbs", density=0.5).eval()
    module.stem[0].weight.requires_grad_(False)
    state = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    attributes = [(type(part), dict(vars(part))) for part in module.modules()]
    compile_module(module, X)
    for part, (kind, values) in zip(module.modules(), attributes, strict=True):
        assert type(part) is kind
        assert vars(part) == values
    assert all(torch.equal(state[key], tensor) for key, tensor in module.state_dict().items())


# Before anything is compiled


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda y: {"out": y, "index": y.argmax(1)}, "'index' of the network is of type int64"),
        (lambda y: (y, y[0]), "'output1' of the network has shape"),
        (lambda y: y.log(), "is NaN or infinite"),
    ],
)
def test_refused_before_linking(
    forward: Callable[[Tensor], Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ends(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return forward(x)

    monkeypatch.setattr(front, "build", None)
    with pytest.raises(CompileError, match=message):
        compile_module(Ends().eval(), X)
