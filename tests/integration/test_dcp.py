"""DCP in compiled code: the number of computed channels varies per image, the results are right."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")
pytest.importorskip("ziglang", reason="ziglang is not installed: pip install 'headgate[compile]'")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from headgate.compile import compile_module
from headgate.train.gates import calibrate, gate, gate_statistics
from headgate.train.macs import count_macs
from tests.networks import conv_bn, network, randomise
from tests.oracle import check_bundle


def check(module: nn.Module, images: torch.Tensor, target: str) -> np.ndarray:
    """Outputs and executed MACs per image against PyTorch's; returns the latter."""
    bundle = compile_module(module, images[:1], target=target, vectors=images.numpy(), check=False)
    assert count_macs(module, images[:1], images).unsupported() == {}
    return check_bundle(bundle, module, images)


def varied(images: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Images whose channels have means of their own, which is what the predictors see."""
    generator = torch.Generator().manual_seed(2)
    means = torch.randn(images, shape[0], 1, 1, generator=generator)
    return torch.randn(images, *shape, generator=generator) + 2 * means


@pytest.mark.parametrize("density", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("layers", [None, "block-inner"])
def test_on_the_host(density: float, layers: str | None) -> None:
    module, shape = network("resnet8")
    gated = gate(module, "dcp", density=density, layers=layers, predictor_std=2.0)
    images = varied(12, shape)
    calibrate(gated, [images])
    executed = check(gated, images, "host")
    assert (len(set(executed.tolist())) > 1) == (density < 1)


def test_under_qemu(qemu_aarch64: str) -> None:
    module, shape = network("branches")
    gated = gate(module, "dcp", density=0.5, predictor_std=2.0)
    images = varied(3, shape)
    calibrate(gated, [images])
    check(gated, images, "rpi4")


def test_images_for_which_no_or_every_channel_is_computed() -> None:
    module, shape = network("resnet8")
    gated = gate(module, "dcp", density=0.5, layers="block-inner", predictor_std=0.0)
    first = gated.get_submodule("stage1.0.conv1")
    # The first layer's logits all follow the brightness: a dark image closes it, a bright one
    # opens it.
    with torch.no_grad():
        first.predictor.weight.fill_(1.0)
        first.predictor.bias.zero_()
    images = torch.cat([torch.full((1, *shape), level) for level in (-3.0, 0.0, 3.0)])
    sums = first.saliency(_input_of(gated, first, images))[:, 0]
    low, high = sums.min(), sums.max()
    first.set_thresholds(((low + high) / 2).expand(first.channels))
    with torch.no_grad():
        gated(images)
    statistics = gate_statistics(gated)["stage1.0.conv1"]
    assert (statistics.least, statistics.most) == (0, first.channels)
    check(gated, images, "host")


def _input_of(module: nn.Module, layer: nn.Module, images: torch.Tensor) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    hook = layer.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        module(images)
    hook.remove()
    return seen[0]


@given(
    inputs=st.integers(1, 9),
    inner=st.integers(1, 19),
    outputs=st.integers(1, 9),
    height=st.integers(3, 12),
    width=st.integers(3, 12),
    stride=st.integers(1, 2),
    kernel=st.sampled_from([1, 3]),
    density=st.floats(0.1, 1.0),
)
@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])
def test_any_shape(
    inputs: int,
    inner: int,
    outputs: int,
    height: int,
    width: int,
    stride: int,
    kernel: int,
    density: float,
) -> None:
    torch.manual_seed(0)
    module = randomise(
        nn.Sequential(
            conv_bn(inputs, inner, kernel, stride=stride), nn.ReLU(), conv_bn(inner, outputs)
        )
    )
    gated = gate(module, "dcp", density=density, predictor_std=2.0)
    images = varied(5, (inputs, height, width))
    calibrate(gated, [images])
    check(gated, images, "host")
