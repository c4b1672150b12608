"""int8 networks: the same bits on every instruction set, which are the reference's."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

from headgate.compile import compile_module, isa
from headgate.compile import module as compiler
from headgate.compile.kernels.i8 import inner
from headgate.compile.verify.codes import EXACT
from headgate.device import Bundle, load
from headgate.device.targets import Target, get_target, host
from headgate.errors import CompileError, InputError, UsageError
from headgate.train.checkpoints import load_checkpoint
from headgate.train.data import PREPROCESS, sample_images
from headgate.train.gates import gate
from headgate.train.models import create_model
from tests.emulated_vnni import EVERYWHERE
from tests.full import FULL
from tests.networks import MixedLayers, randomise
from tests.oracle import machine_of

IMAGES_IN_LANES = (
    # inputs, outputs, image, then as nn.Conv2d has them: kernel, stride, padding, dilation, groups
    (70, 33, 2, 3, 1, 1, 1, 1),
    (36, 40, 5, 5, 1, 2, 1, 2),
    (24, 16, 14, 3, 2, 1, 1, 1),
    (16, 19, 9, 3, 1, 2, 2, 1),
    (40, 24, 7, 1, 1, 0, 1, 1),
    (40, 24, 1, 1, 1, 0, 1, 1),
)
EXPLORE = (Phase.explicit, Phase.generate)
"""Compiling takes a second: a failing example is reported as it was drawn."""
NAMES = ("resnet8", "resnet8-fbs-0.5", "resnet8-dcp-0.5", "resnet8-cgnet-1.35x", "resnet8-frs-1.9x")
LARGER = ("mcifarnet", "resnet20-fbs-0.5")
# The layers of resnet20 are resnet8's, again and again.
ELSEWHERE = NAMES[1:4] + (LARGER if FULL else LARGER[:1])
"""Networks that run on other instruction sets than this machine's."""


def images_of_cifar(count: int) -> Tensor:
    return torch.from_numpy(PREPROCESS(sample_images()[0][:count]))


def avx2() -> Target:
    """This machine without AVX-512."""
    return replace(host(), cpu="haswell", features=(), vector_fma_cycles={8: 0.5})


def compiled(module: nn.Module, images: Tensor, target: str, samples: int = 16) -> Bundle:
    return compile_module(
        module,
        images[:1],
        target=target,
        vectors=images[:4],
        dtype="int8",
        calibration=images[:samples],
        check=False,
    )


def check(bundle: Bundle, machine: str) -> np.ndarray:
    """Holds what ``bundle`` computes against its reference; its executed MACs."""
    inputs, expected = bundle.vectors()
    with load(bundle, machine) as program:
        outputs = program.outputs(inputs)
        executed = program.executed_macs()
    np.testing.assert_array_equal(outputs[0], expected[0])
    return executed


@pytest.fixture
def without_avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = avx2()
    monkeypatch.setattr(
        compiler, "get_target", lambda name: narrow if name == "host" else get_target(name)
    )


@pytest.fixture
def emulated_vnni(without_avx512: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """VNNI's schedules on a machine without it: ``host`` has 16 lanes, made of AVX2's."""
    if not FULL:
        pytest.skip("takes minutes to compile: HEADGATE_FULL=1")
    monkeypatch.setattr(isa, "_ALL", EVERYWHERE)


def network(name: str) -> nn.Module:
    if name != "mcifarnet":
        return load_checkpoint(name).module.eval()
    torch.manual_seed(0)
    return gate(create_model("mcifarnet"), density=0.5).eval()


def executed(name: str, target: str) -> np.ndarray:
    """Executed MACs of each image, on which the results are the reference's."""
    bundle = compiled(network(name), images_of_cifar(4), target, 4)
    assert bundle.manifest["tolerance"] == EXACT
    return check(bundle, machine_of(target))


@cache
def executed_here(name: str) -> np.ndarray:
    return executed(name, "host")


@pytest.mark.parametrize("name", NAMES + LARGER)
def test_networks_on_the_host(name: str) -> None:
    executed_here(name)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_networks_with_avx2(name: str, request: pytest.FixtureRequest) -> None:
    here = executed_here(name)
    request.getfixturevalue("without_avx512")
    np.testing.assert_array_equal(here, executed(name, "host"))


@pytest.mark.parametrize("name", ["resnet8-fbs-0.5", "resnet8-cgnet-1.35x"])
def test_networks_with_emulated_vnni(name: str, request: pytest.FixtureRequest) -> None:
    here = executed_here(name)
    request.getfixturevalue("emulated_vnni")
    np.testing.assert_array_equal(here, executed(name, "host"))


@pytest.mark.parametrize("target", ["rpi4", "rpi5"])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_networks_under_qemu(name: str, target: str, qemu_aarch64: str) -> None:
    np.testing.assert_array_equal(executed_here(name), executed(name, target))


class Functions(nn.Module):
    """Elementwise functions, alone, in chains, and with numbers for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.grouped = nn.Conv2d(3, 9, 3), nn.Conv2d(9, 12, 3, groups=3)
        self.slope, self.norm = nn.PReLU(12), nn.BatchNorm2d(12)
        self.last, self.again = nn.Conv2d(12, 8, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.hidden, self.out = nn.Linear(8, 5), nn.Linear(5, 4)
        self.slope.weight.data.uniform_(-1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.hardswish(self.conv(x))
        x = functional.max_pool2d(self.slope(self.grouped(x)), 2)
        x = functional.gelu(self.last(self.norm(x)))
        x = functional.silu(self.again(x)).clamp(-0.2, 1) + x
        power = torch.exp(-x)
        x = self.hidden((power / (1 + power)).mean((2, 3)))
        return torch.sigmoid(self.out(torch.tanh(torch.sigmoid(x))))


@pytest.mark.parametrize("target", ["host", "rpi4", "rpi5"])
def test_functions_are_tables(target: str, qemu_aarch64: str) -> None:
    torch.manual_seed(0)
    module, images = randomise(Functions()), torch.randn(8, 3, 19, 23)
    bundle = compiled(module, images, target, 8)
    check(bundle, machine_of(target))
    operators = [layer["operator"] for layer in bundle.manifest["layers"]]
    assert operators.count("table") == 7
    assert operators.count("add") == 1
    assert not {"quantize", "dequantize"}.intersection(operators[1:])
    # A prediction that nobody reads as codes stays as exact as it is.
    assert bundle.manifest["float_layers"] == ["sigmoid_1 (sigmoid)"]
    assert [layer.get("in_float", False) for layer in bundle.manifest["layers"]].count(True) == 1
    inputs, found = bundle.vectors()
    with torch.no_grad():
        wanted = module(torch.from_numpy(inputs[0])).numpy()
    assert np.abs(found[0] - wanted).max() < 2e-3


def test_a_function_of_a_gated_layer_visits_its_channels() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        *(nn.Conv2d(3, 24, 3), nn.BatchNorm2d(24), nn.Hardswish()),
        *(nn.Conv2d(24, 16, 3), nn.BatchNorm2d(16), nn.Hardswish(), nn.Conv2d(16, 4, 1)),
    )
    module = gate(randomise(module), density=0.4).eval()
    bundle = compiled(module, torch.randn(8, 3, 11, 13), "host", 8)
    check(bundle, "host")
    operators = [layer["operator"] for layer in bundle.manifest["layers"]]
    assert operators.count("table") == 2
    assert "clear_inactive" not in operators


class Mixed(MixedLayers):
    """What checkpoints do not have."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(32, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


@pytest.mark.parametrize("target", ["host", "rpi4", "rpi5"])
def test_other_layers(target: str, qemu_aarch64: str) -> None:
    torch.manual_seed(0)
    check(compiled(Mixed().eval(), torch.randn(8, 3, 19, 23), target, 8), machine_of(target))


@pytest.mark.usefixtures("without_avx512")
def test_other_layers_with_avx2() -> None:
    torch.manual_seed(0)
    check(compiled(Mixed().eval(), torch.randn(8, 3, 19, 23), "host", 8), "host")


@pytest.mark.usefixtures("emulated_vnni")
def test_other_layers_with_emulated_vnni() -> None:
    torch.manual_seed(0)
    check(compiled(Mixed().eval(), torch.randn(8, 3, 19, 23), "host", 8), "host")


@pytest.mark.usefixtures("emulated_vnni")
@pytest.mark.parametrize("numbers", IMAGES_IN_LANES[:3])
def test_inputs_in_lanes_with_emulated_vnni(
    numbers: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    check(in_lanes(numbers, True, "host", monkeypatch), "host")


@pytest.mark.usefixtures("emulated_vnni")
def test_odd_numbers_of_active_inputs_with_emulated_vnni() -> None:
    check(of_odd_numbers("host"), "host")


@pytest.mark.parametrize("density", [0.001, 0.3, 1.0])
def test_gates_at_their_limits(density: float) -> None:
    torch.manual_seed(0)
    module = gate(create_model("resnet8"), density=density).eval()
    check(compiled(module, images_of_cifar(16), "host"), "host")


@settings(max_examples=12, deadline=None, phases=EXPLORE, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_convolutions_of_any_shape(data: st.DataObject) -> None:
    draw = data.draw
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    inputs, outputs = groups * draw(st.integers(1, 9)), groups * draw(st.integers(1, 20))
    kernel, stride = draw(st.sampled_from([1, 2, 3, 5])), draw(st.integers(1, 2))
    dilation, padding = draw(st.integers(1, 2)), draw(st.integers(0, 3))
    height, width = draw(st.integers(10, 24)), draw(st.integers(10, 24))
    torch.manual_seed(draw(st.integers(0, 99)))
    first = nn.Conv2d(3, inputs, 1)
    second = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups)
    between = draw(st.sampled_from([nn.ReLU(), nn.Identity()]))
    module = nn.Sequential(first, between, second).eval()
    images = torch.randn(4, 3, height, width)
    check(compiled(module, images, "host", 4), "host")


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("numbers", IMAGES_IN_LANES)
def test_inputs_in_lanes(
    numbers: tuple[int, ...], gated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(in_lanes(numbers, gated, "host", monkeypatch), "host")


@pytest.mark.parametrize("numbers", IMAGES_IN_LANES[:3])
@pytest.mark.usefixtures("without_avx512")
def test_inputs_in_lanes_with_avx2(
    numbers: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    check(in_lanes(numbers, True, "host", monkeypatch), "host")


@pytest.mark.parametrize("numbers", IMAGES_IN_LANES[:3])
def test_inputs_in_lanes_under_qemu(
    numbers: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, qemu_aarch64: str
) -> None:
    check(in_lanes(numbers, True, "rpi5", monkeypatch), machine_of("rpi5"))


@pytest.mark.parametrize("target", ["host", "rpi4", "rpi5"])
def test_weights_of_odd_numbers_of_active_inputs(target: str, qemu_aarch64: str) -> None:
    check(of_odd_numbers(target), machine_of(target))


def of_odd_numbers(target: str) -> Bundle:
    """What is left over: inputs of words, words of vectors, outputs of tiles.

    Of 70, 19 and 22 channels 42, 11 and 13 or so are active: no multiples of four or of eight.
    """
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs, kernel in ((3, 70, 3), (70, 19, 3), (19, 22, 5), (22, 12, 1), (12, 5, 1)):
        layers += [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)]
        layers += [nn.BatchNorm2d(outputs), nn.ReLU() if outputs != 22 else nn.Identity()]
    module = gate(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1)), density=0.6).eval()
    return compiled(module, torch.randn(8, 3, 13, 18), target, 8)


def in_lanes(
    numbers: tuple[int, ...], gated: bool, target: str, monkeypatch: pytest.MonkeyPatch
) -> Bundle:
    """A bundle with the kernel whose lanes are inputs, whatever it costs."""
    monkeypatch.setattr(inner.InnerConv, "cycles", lambda *_: 0.0)
    inputs, outputs, size, kernel, stride, padding, dilation, groups = numbers
    torch.manual_seed(0)
    sign = nn.Identity() if outputs % 2 else nn.ReLU()
    module = nn.Sequential(
        *(nn.Conv2d(3, inputs, 3, padding=1), nn.BatchNorm2d(inputs), sign),
        nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups),
        *(nn.BatchNorm2d(outputs), nn.ReLU(), nn.Conv2d(outputs, 12, 3, padding=1)),
        *(nn.BatchNorm2d(12), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
    )
    module = (gate(module, density=0.5) if gated else module).eval()
    return compiled(module, torch.randn(8, 3, size, size), target, 8)


def test_what_cannot_be_calibrated_is_refused_in_a_line() -> None:
    module, images = create_model("resnet8").eval(), images_of_cifar(2)
    with pytest.raises(UsageError, match="needs calibration"):
        compile_module(module, images[:1], dtype="int8")
    with pytest.raises(UsageError, match="calibration is for dtype='int8'"):
        compile_module(module, images[:1], calibration=images)
    with pytest.raises(UsageError, match="Unknown dtype 'int4'"):
        compile_module(module, images[:1], dtype="int4")
    for wrong, message in (
        (images[:0], "no calibration images"),
        (images[:, :, :16], "Calibration images have shape"),
        (torch.ones_like(images), "Calibration images are 1 throughout"),
        (images * torch.nan, "Calibration image 0 of input 'x' holds NaN"),
        (images.byte(), "Calibration images for input 'x' are of type uint8; give floats"),
        (torch.zeros(3, 3, 32, 32), "Calibration images are 0 throughout, which shows no range"),
    ):
        with pytest.raises(InputError, match=message):
            compile_module(module, images[:1], dtype="int8", calibration=wrong)


def test_weights_that_are_nan_are_refused_in_a_line() -> None:
    module, images = create_model("resnet8").eval(), images_of_cifar(2)
    with torch.no_grad():
        module.conv.weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(CompileError, match="starts in module 'conv'"):
        compile_module(module, images[:1], dtype="int8", calibration=images)


@pytest.mark.parametrize("kind", ["one image", "float64", "a dead layer", "uneven channels"])
def test_what_is_odd_makes_a_right_network(kind: str) -> None:
    module, images = load_checkpoint("resnet8").module, images_of_cifar(16)
    calibration: Tensor = images[:1] if kind == "one image" else images
    with torch.no_grad():
        if kind == "float64":
            calibration = images.double()
        elif kind == "a dead layer":
            module.stage2[0].bn1.weight.zero_()
            module.stage2[0].bn1.bias.fill_(-1)
        elif kind == "uneven channels":
            module.stage2[0].bn1.weight[:4] *= 100
            module.stage2[0].bn1.bias[:4] *= 100
            module.stage2[0].conv2.weight[:, :4] /= 100
        expected = module(images)
    bundle = compile_module(module, images[:1], dtype="int8", calibration=calibration)
    with load(bundle, "host") as program:
        error = np.abs(program.run(images.numpy()) - expected.numpy()).max()
    loose = kind in ("one image", "uneven channels")
    assert error < (0.5 if loose else 0.1) * float(expected.abs().max())
