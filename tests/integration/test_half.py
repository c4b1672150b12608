"""float16 networks: within rounding of PyTorch under QEMU, gates and odd shapes included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

from headgate.compile import compile_module
from headgate.device import Bundle
from headgate.errors import CompileError, UsageError, WrongResult
from headgate.train.checkpoints import load_checkpoint
from headgate.train.data import PREPROCESS, sample_images
from headgate.train.gates import gate
from headgate.train.models import create_model
from tests.networks import MixedLayers

pytestmark = pytest.mark.usefixtures("qemu_aarch64")
TARGET = "rpi5"
EXPLORE = (Phase.explicit, Phase.generate)
"""Compiling takes a second: a failing example is reported as it was drawn."""
NAMES = ("resnet8", "resnet8-fbs-0.5", "resnet8-cgnet-1.35x", "resnet8-frs-1.9x")


def images_of_cifar(count: int) -> Tensor:
    return torch.from_numpy(PREPROCESS(sample_images()[0][:count]))


def compiled(module: nn.Module, images: Tensor) -> Bundle:
    """Checked under QEMU: every answer, or every layer and the answers that follow from gates."""
    bundle = compile_module(
        module.eval(), images[:1], target=TARGET, vectors=images, dtype="float16"
    )
    assert bundle.manifest["dtype"] == "float16"
    assert bundle.manifest["checked"]["machine"] == f"qemu:{TARGET}"
    assert bundle.manifest["checked"]["max_error"] <= bundle.manifest["tolerance"] == 1e-2
    assert bundle.manifest["checked"]["max_error"] > 1e-6, "nothing was rounded"
    return bundle


@pytest.mark.parametrize("name", NAMES)
def test_checkpoints(name: str) -> None:
    bundle = compiled(load_checkpoint(name).module, images_of_cifar(4))
    assert bundle.manifest["checked"]["vectors"] == 4
    assert bundle.manifest["float_layers"] == []
    inputs, outputs = bundle.vectors()
    assert {array.dtype for array in (*inputs, *outputs)} == {np.dtype(np.float32)}


def test_a_bundle_is_half_as_large() -> None:
    images, module = images_of_cifar(1), load_checkpoint("resnet8").module.eval()
    half, single = (
        compile_module(module, images, target=TARGET, dtype=dtype, check=False).manifest
        for dtype in ("float16", "float32")
    )
    assert half["weights_bytes"] < 0.51 * single["weights_bytes"]
    assert half["arena_bytes"] < 0.6 * single["arena_bytes"]


class Mixed(MixedLayers):
    """What checkpoints do not have."""

    def __init__(self) -> None:
        super().__init__()
        self.deep = nn.Conv2d(32, 9, 5, padding=2)
        self.fc = nn.Linear(9, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.sigmoid(self.deep(self.features(x))).mean((2, 3)))


def test_other_layers() -> None:
    torch.manual_seed(0)
    compiled(Mixed(), torch.randn(3, 3, 19, 23))


class Attention(nn.Module):
    """Products of tensors, softmax and layer norm between linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.keys = nn.LayerNorm(24), nn.Linear(24, 24)
        self.out = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        keys = self.keys(x)
        weights = (x @ keys.transpose(1, 2)).softmax(-1)
        return self.out((weights @ x).mean(1))


def test_what_has_no_kernel_of_float16_is_listed() -> None:
    torch.manual_seed(0)
    bundle = compiled(Attention(), torch.randn(3, 6, 24))
    assert any("matmul" in layer for layer in bundle.manifest["float_layers"])


@pytest.mark.parametrize("density", [0.001, 1.0])
def test_gates_at_their_limits(density: float) -> None:
    torch.manual_seed(0)
    bundle = compiled(gate(create_model("resnet8"), density=density), images_of_cifar(4))
    assert len(bundle.vectors()[0][0]) == bundle.manifest["checked"]["vectors"] >= 2


def test_answers_follow_from_what_gates_decided() -> None:
    torch.manual_seed(0)
    module, images = gate(create_model("resnet8"), density=0.5).eval(), images_of_cifar(4)
    predictor = module.get_submodule("stage2.0.conv1.predictor")
    with torch.no_grad():  # all channels nearly tie
        predictor.weight[:] = predictor.weight[0] + 1e-6 * torch.randn_like(predictor.weight)
        predictor.bias.fill_(1.0)
        exact = module(images).numpy()
    bundle = compiled(module, images)
    assert bundle.manifest["checked"]["vectors"] == 4
    (answers,) = bundle.vectors()[1]
    assert np.abs(answers - exact).max() > 1e-2 * np.abs(exact).max()


@settings(max_examples=6, deadline=None, phases=EXPLORE, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_convolutions_of_any_shape(data: st.DataObject) -> None:
    draw = data.draw
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    inputs, outputs = groups * draw(st.integers(1, 40)), groups * draw(st.integers(1, 20))
    kernel, stride = draw(st.sampled_from([1, 2, 3, 5])), draw(st.integers(1, 3))
    dilation, padding = draw(st.integers(1, 2)), draw(st.integers(0, 3))
    height, width = draw(st.integers(10, 24)), draw(st.integers(10, 24))
    torch.manual_seed(draw(st.integers(0, 99)))
    first = nn.Conv2d(3, inputs, 1)
    second = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups)
    between = draw(st.sampled_from([nn.ReLU(), nn.Identity()]))
    compiled(nn.Sequential(first, between, second), torch.randn(2, 3, height, width))


def test_what_float16_cannot_hold_is_refused_in_a_line() -> None:
    images = torch.full((2, 3, 8, 8), 10.0)
    layer = nn.Conv2d(3, 4, 3)
    module = nn.Sequential(layer, nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    with torch.no_grad():
        layer.weight.fill_(1e3)
    with pytest.raises(CompileError, match=r"'0' reaches 2.7e\+05 on a test vector"):
        compile_module(module, images[:1], vectors=images, target=TARGET, dtype="float16")
    with torch.no_grad():
        layer.weight.fill_(1e5)
    with pytest.raises(CompileError, match="A weight of '0' is larger than 65504"):
        compile_module(module, images[:1], vectors=images, target=TARGET, dtype="float16")


def test_sums_that_float16_cannot_hold_are_refused_in_a_line() -> None:
    images, layer = torch.full((2, 3, 8, 8), 10.0), nn.Conv2d(3, 4, 3)
    module = nn.Sequential(layer).eval()
    with torch.no_grad():
        layer.weight[:, :2] = 1e3
        layer.weight[:, 2] = -2e3
    with pytest.raises(WrongResult, match="sums of layer '0' of 'n' leave the range of float16"):
        compile_module(module, images[:1], vectors=images, target=TARGET, dtype="float16", name="n")


def test_other_targets_and_calibration_are_refused_in_a_line() -> None:
    module, images = create_model("resnet8").eval(), images_of_cifar(1)
    for target in ("host", "rpi4"):
        with pytest.raises(CompileError, match=r"no instructions for float16; .* rpi5, jetson-or"):
            compile_module(module, images, target=target, dtype="float16")
    with pytest.raises(UsageError, match="calibration is for dtype='int8'; float16 needs no"):
        compile_module(module, images, target=TARGET, dtype="float16", calibration=images)
