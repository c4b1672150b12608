"""Every network that travels with the package, compiled, on all sample images, against PyTorch.

The largest error is 1e-4 of the output's scale and the top-1 is the same; executed MACs are
exactly those that ``count_macs`` finds in PyTorch for the same image.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")
pytest.importorskip("ziglang", reason="ziglang is not installed: pip install 'headgate[compile]'")

from headgate.compile import compile_module
from headgate.device import Bundle, load
from headgate.device.validation import compare_outputs
from headgate.train.checkpoints import list_checkpoints, load_checkpoint
from headgate.train.data import PREPROCESS, sample_images
from headgate.train.gates import gates
from tests.oracle import expected_macs

TOLERANCE = 1e-4
# Of an image whose gates rounding decides, PyTorch itself gives two answers. They are few.
UNDECIDED = 2


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.from_numpy(PREPROCESS(sample_images()[0]))


def choices(module: nn.Module, images: Tensor) -> list[Tensor]:
    """For each gated layer which elements are on, (N, ...)."""
    with torch.no_grad():
        module(images)
    return [layer.last_gate != 0 for layer in gates(module).values()]


def decided(module: nn.Module, images: Tensor) -> np.ndarray:
    """Images (N,) for which all gates are the same in float32 and float64."""
    exact = choices(copy.deepcopy(module).double(), images.double())
    alike = torch.ones(len(images), dtype=torch.bool)
    for on, on_exactly in zip(choices(module, images), exact, strict=True):
        alike &= (on == on_exactly).flatten(1).all(1)
    return alike.numpy()


def check(name: str, images: Tensor, target: str, machine: str) -> None:
    module = load_checkpoint(name).module.eval()
    bundle: Bundle = compile_module(module, images[:1], target=target, check=False)
    with torch.no_grad():
        expected = module.double()(images.double()).float().numpy()
    module.float()
    clear = decided(module, images)
    assert (~clear).sum() <= UNDECIDED
    with load(bundle, machine) as program:
        scores = program.run(images.numpy())
        executed = program.executed_macs()
    result = compare_outputs([scores[clear]], [expected[clear]], TOLERANCE)
    assert result.passed, result
    macs = expected_macs(module, images, bundle)
    np.testing.assert_array_equal(executed[clear], macs[clear])


@pytest.mark.parametrize("name", list_checkpoints())
def test_on_the_host(name: str, images: Tensor) -> None:
    check(name, images, "host", "host")


@pytest.mark.parametrize("name", list_checkpoints())
def test_under_qemu(name: str, images: Tensor, qemu_aarch64: str) -> None:
    check(name, images, "rpi4", "qemu:rpi4")
