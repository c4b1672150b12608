"""int8 networks in firmware, on QEMU's boards: the bytes and the channels of the host."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

from headgate.device import Bundle, load
from headgate.device.machines.qemu_system import BOARDS
from headgate.train.checkpoints import load_checkpoint
from tests.integration.test_int8 import Mixed, compiled, images_of_cifar
from tests.oracle import machine_of

pytestmark = pytest.mark.usefixtures("qemu_system_arm")


def compare_with_host(module: nn.Module, images: torch.Tensor, target: str) -> Bundle:
    """The bundle, once its bytes and channels are the host's and the reference's."""
    here, there = (compiled(module, images, name, 8) for name in ("host", target))
    inputs, expected = here.vectors()
    inputs = [array[:2] for array in inputs]
    with load(here) as program:
        outputs, counts = program.outputs(inputs), program.active_counts
    with load(there, machine_of(target)) as program:
        found = program.outputs(inputs)
        for name, active in counts.items():
            np.testing.assert_array_equal(program.active_counts[name], active)
        assert program.active_counts.keys() == counts.keys()
    for one, other, reference in zip(outputs, found, expected, strict=True):
        assert one.tobytes() == other.tobytes() == reference[:2].tobytes()
    return there


@pytest.mark.parametrize("target", BOARDS)
def test_a_gated_checkpoint_on_every_board(target: str) -> None:
    compare_with_host(load_checkpoint("resnet8-fbs-0.5").module.eval(), images_of_cifar(8), target)


@pytest.mark.parametrize("name", ["resnet8", "resnet8-dcp-0.5"])
def test_checkpoints(name: str) -> None:
    module = load_checkpoint(name).module.eval()
    compare_with_host(module, images_of_cifar(8), "cortex-m4")


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m55"])
def test_other_layers(target: str) -> None:
    torch.manual_seed(0)
    compare_with_host(Mixed().eval(), torch.randn(8, 3, 19, 23), target)
