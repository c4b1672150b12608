"""Small random networks with every method, compiled and run, against PyTorch in evaluation mode.

The largest error is 1e-4 of the output's scale and the top-1 is the same; executed MACs are
exactly those that ``count_macs`` finds in PyTorch, those of a pixel gate in its kernel's tiles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")
pytest.importorskip("ziglang", reason="ziglang is not installed: pip install 'headgate[compile]'")

from headgate.compile import compile_module
from headgate.train.gates import gate
from headgate.train.gates.cgnet import CGNetConv2d
from headgate.train.pruning import find_prunable, remove_channels
from tests.kernel_cases import SEEDS, drawn
from tests.networks import conv_bn, randomise
from tests.oracle import check_bundle, machine_of

SHAPE = (3, 13, 14)


class Small(nn.Module):
    """A residual block, a convolution with stride 2, a pointwise one; ``widths`` of all four."""

    def __init__(self, stem: int, inner: int, down: int, last: int) -> None:
        super().__init__()
        self.stem, self.inner, self.outer = (
            conv_bn(3, stem),
            conv_bn(stem, inner),
            conv_bn(inner, stem),
        )
        self.down, self.last = conv_bn(stem, down, stride=2), conv_bn(down, last, 1)
        self.head = nn.Linear(last, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.outer(F.relu(self.inner(x))) + x)
        x = F.relu(self.last(F.relu(self.down(x))))
        return self.head(x.mean((2, 3)))


@st.composite
def networks(draw: st.DrawFn, unit: int = 1) -> nn.Module:
    """Random weights; all widths are multiples of ``unit``."""
    widths = [unit * draw(st.integers(1, max(24 // unit, 2))) for _ in range(4)]
    torch.manual_seed(draw(SEEDS))
    return randomise(Small(*widths))


@st.composite
def fbs(draw: st.DrawFn) -> nn.Module:
    return gate(draw(networks()), method="fbs", density=draw(st.sampled_from([0.5, 0.2, 0.8])))


@st.composite
def dcp(draw: st.DrawFn) -> nn.Module:
    density = draw(st.sampled_from([0.5, 0.2, 0.8]))
    # A strong predictor, so that images differ in how many channels they keep.
    options = {"predictor_std": 2.0, "standardize": draw(st.booleans())}
    return gate(draw(networks()), method="dcp", density=density, **options)


@st.composite
def cgnet(draw: st.DrawFn) -> nn.Module:
    partitions, block = draw(
        st.sampled_from([(2, (1, 1)), (4, (1, 1)), (2, (8, 32)), (2, (4, 16))])
    )
    options: dict[str, Any] = {
        "grouped": draw(st.sampled_from([True, False])),
        "shuffle": draw(st.booleans()),
        "separate_norms": draw(st.booleans()),
        "start": draw(st.sampled_from([1.0, 0.0, 2.0])),
    }
    network = draw(networks(partitions * (1 if block == (1, 1) else 4)))
    return gate(network, method="cgnet", partitions=partitions, block=block, **options)


@st.composite
def frs(draw: st.DrawFn) -> nn.Module:
    network, random = draw(networks()), np.random.default_rng(draw(SEEDS))
    kept = {}
    for path in find_prunable(network):
        channels = network.get_submodule(path).out_channels
        count = random.integers(1, channels + 1)
        kept[path] = sorted(random.permutation(channels)[:count].tolist())
    return remove_channels(network, kept)


METHODS: dict[str, Callable[[], st.SearchStrategy[nn.Module]]] = {
    "fbs": fbs,
    "dcp": dcp,
    "cgnet": cgnet,
    "frs": frs,
}


@st.composite
def mixed(draw: st.DrawFn) -> nn.Module:
    """All methods in one network."""
    network = draw(networks(unit=8))
    total = network.outer[0].out_channels
    network = remove_channels(network, {"outer.0": range(0, total, 2)})
    network = gate(network, method="cgnet", partitions=2, layers="inner.0", start=1.0)
    network = gate(network, method="fbs", density=0.5, layers="down.0")
    return gate(network, method="dcp", density=0.5, layers="last.0", predictor_std=2.0)


def check(module: nn.Module, target: str, machine: str) -> None:
    """Outputs against PyTorch's, executed MACs against the count in PyTorch."""
    module.eval()
    images = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    # A score that rounding may move over zero decides nothing that could be compared.
    assume(smallest_score(module, images) > 1e-5)
    # What is compiled is compared here.
    bundle = compile_module(module, images[:1], target=target, vectors=images.numpy(), check=False)
    assert machine == machine_of(target)
    check_bundle(bundle, module, images)


def smallest_score(module: nn.Module, images: Tensor) -> float:
    """How near to its threshold a pixel gate comes; infinite without one."""
    layers = [layer for layer in module.modules() if isinstance(layer, CGNetConv2d)]
    found = [torch.tensor(torch.inf)]
    for layer in layers:
        layer.record = lambda _, score: found.append(score.abs().min())
    with torch.no_grad():
        module(images)
    for layer in layers:
        del layer.record
    return float(torch.stack(found).min())


@pytest.mark.parametrize("method", METHODS)
def test_method_on_the_host(method: str) -> None:
    @drawn(2)
    @given(METHODS[method]())
    def run(module: nn.Module) -> None:
        check(module, "host", "host")

    run()


def test_all_methods_in_one_network_under_qemu(qemu_aarch64: str) -> None:
    @drawn(2)
    @given(mixed())
    def run(module: nn.Module) -> None:
        check(module, "rpi4", "qemu:rpi4")

    run()
