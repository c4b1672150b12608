"""Every network that travels with the package, compiled, on all sample images, against PyTorch.

The largest error is 1e-4 of the output's scale and the top-1 is the same; executed MACs are
exactly those that ``count_macs`` finds in PyTorch for the same image. Of networks that differ in
their density or width alone one is compiled, and emulated one of each method with some of the
images: all take a quarter of an hour, HEADGATE_FULL=1.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save
from torch import Tensor, nn

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")
pytest.importorskip("ziglang", reason="ziglang is not installed: pip install 'headgate[compile]'")

from headgate.compile import compile_module
from headgate.device import Bundle, load
from headgate.device.validation import compare_outputs
from headgate.train.checkpoints import list_checkpoints, load_checkpoint
from headgate.train.data import PREPROCESS, sample_images
from headgate.train.gates import gates
from tests.full import FULL
from tests.oracle import expected_macs, machine_of
from tests.session_cache import once

TOLERANCE = 1e-4
# Of an image whose gates rounding decides, PyTorch itself gives two answers. They are few.
UNDECIDED = 2
EMULATED_IMAGES = 200 if FULL else 20
"""QEMU takes ten to twenty times as long."""
_ALIKE = {f"resnet8-{x}" for x in ("cgnet-1.35x", "dcp-0.7", "fbs-0.7", "frs-1.35x", "wide-fbs")}
_ALIKE |= {"mcifarnet"}  # as mcifarnet-fbs-0.5
COMPILED = [name for name in list_checkpoints() if FULL or name not in _ALIKE]
_OF_EACH_METHOD = ("cgnet-1.9x", "dcp-0.5", "fbs-0.5", "frs-1.9x")
EMULATED = list_checkpoints() if FULL else ["resnet8", *(f"resnet8-{x}" for x in _OF_EACH_METHOD)]


def outputs_and_choices(module: nn.Module, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Outputs (N, classes), and for each gated layer which elements are on, (N, ...)."""
    with torch.no_grad():
        outputs = module(images)
    return outputs, [layer.last_gate != 0 for layer in gates(module).values()]


@cache
def reference(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Outputs (N, classes) in float64 for all sample images, once for all targets.

    And the images (N,) for which all gates are the same in float32 and float64.
    """

    def make() -> bytes:
        module, images = load_checkpoint(name).module.eval(), sample_inputs()
        clear = torch.ones(len(images), dtype=torch.bool)
        # float32 first: the network is not converted back.
        choices = outputs_and_choices(module, images)[1] if gates(module) else []
        outputs, exact = outputs_and_choices(module.double(), images.double())
        for on, on_exactly in zip(choices, exact, strict=True):
            clear &= (on == on_exactly).flatten(1).all(1)
        return save({"outputs": outputs.float().numpy(), "clear": clear.numpy()})

    made = load_file(once("reference", name, make))
    return made["outputs"], made["clear"]


def sample_inputs() -> Tensor:
    return torch.from_numpy(PREPROCESS(sample_images()[0]))


def check(name: str, target: str, count: int) -> None:
    module, images = load_checkpoint(name).module.eval(), sample_inputs()[:count]
    bundle: Bundle = compile_module(module, images[:1], target=target, check=False)
    expected, clear = (found[:count] for found in reference(name))
    assert (~clear).sum() <= UNDECIDED
    with load(bundle, machine_of(target)) as program:
        scores = program.run(images.numpy())
        executed = program.executed_macs()
    result = compare_outputs([scores[clear]], [expected[clear]], TOLERANCE)
    assert result.passed, result
    macs = expected_macs(module, images, bundle)
    np.testing.assert_array_equal(executed[clear], macs[clear])


@pytest.mark.parametrize("name", COMPILED)
def test_on_the_host(name: str) -> None:
    check(name, "host", 200)


@pytest.mark.parametrize("name", EMULATED)
def test_under_qemu(name: str, qemu_aarch64: str) -> None:
    check(name, "rpi4", EMULATED_IMAGES)
