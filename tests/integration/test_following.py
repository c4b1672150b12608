"""Gates beyond convolution, batch norm and ReLU: what follows one, what has no norm, what is 1-D.

Each network is compiled and compared with PyTorch, its executed MACs with those that are counted.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

import headgate
from headgate.train.gates import gate
from tests.networks import conv_bn, randomise
from tests.oracle import check_bundle, check_outputs


class Inverted(nn.Module):
    """Expansion, depthwise convolution, projection, and a sum."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.expand = conv_bn(channels, hidden, kernel=1)
        self.depthwise = conv_bn(hidden, hidden, groups=hidden)
        self.project = conv_bn(hidden, channels, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.relu6(self.expand(x))
        return x + self.project(nn.functional.relu6(self.depthwise(y)))


def head(channels: int, pool: nn.Module) -> list[nn.Module]:
    return [pool, nn.Flatten(), nn.Linear(channels, 5)]


def mobile() -> nn.Sequential:
    stem = [conv_bn(3, 8, stride=2), nn.ReLU6()]
    return nn.Sequential(*stem, Inverted(8, 27), Inverted(8, 32), *head(8, nn.AdaptiveAvgPool2d(1)))


def without_norm() -> nn.Sequential:
    layers = [nn.Conv2d(3, 9, 3, padding=1), nn.ReLU(), nn.Conv2d(9, 12, 3), nn.LeakyReLU()]
    return nn.Sequential(*layers, nn.Conv2d(12, 6, 1), nn.ReLU(), *head(6, nn.AdaptiveAvgPool2d(1)))


def behind_an_instance_norm() -> nn.Sequential:
    layers = [
        *(nn.Conv2d(3, 9, 3, padding=1), nn.InstanceNorm2d(9, affine=True), nn.ReLU()),
        *(nn.Conv2d(9, 6, 3), nn.InstanceNorm2d(6), nn.ReLU()),
    ]
    return nn.Sequential(*layers, nn.Conv2d(6, 4, 3))


def along_a_line() -> nn.Sequential:
    layers = [
        *(nn.Conv1d(3, 10, 5, 2, 2), nn.BatchNorm1d(10), nn.ReLU()),
        *(nn.Conv1d(10, 10, 3, padding=1, groups=10), nn.BatchNorm1d(10), nn.ReLU()),
        *(nn.Conv1d(10, 7, 1), nn.BatchNorm1d(7), nn.ReLU()),
    ]
    return nn.Sequential(*layers, *head(7, nn.AdaptiveAvgPool1d(1)))


NETWORKS = {
    "mobile": (mobile, (3, 18, 14)),
    "without norm": (without_norm, (3, 12, 9)),
    "instance norm": (behind_an_instance_norm, (3, 12, 9)),
    "one dimension": (along_a_line, (3, 50)),
}


def gated(name: str, density: float) -> tuple[nn.Module, Tensor]:
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    network = randomise(build().eval())
    for norm in network.modules():
        if isinstance(norm, nn.InstanceNorm2d) and norm.affine:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
    images = torch.randn(4, *shape)
    # Predictors that differ between images.
    return gate(network, density=density, predictor_std=2.0).eval(), images


def check(module: nn.Module, images: Tensor, target: str = "host") -> None:
    bundle = headgate.compile_module(module, images[:1], target=target, check=False)
    check_bundle(bundle, module, images, tolerance=1e-5)


@pytest.mark.parametrize("density", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("name", NETWORKS)
def test_right_and_counted(name: str, density: float) -> None:
    check(*gated(name, density))


def test_under_qemu(qemu_aarch64: str) -> None:
    check(*gated("mobile", 0.5), "rpi4")


def test_expansion_depthwise_and_projection_have_one_list() -> None:
    module, images = gated("mobile", 0.5)
    bundle = headgate.compile_module(module, images[:1], check=False)
    layers = {
        layer["name"]: layer
        for layer in bundle.manifest["layers"]
        if layer["operator"] == "gated_conv2d"
    }
    lists = bundle.manifest["gates"]
    for block in ("2", "3"):
        expand, depthwise, project = (
            layers[f"{block}.{part}.0"] for part in ("expand", "depthwise", "project")
        )
        assert expand["out_gate"] == depthwise["out_gate"] == project["in_gate"]
        assert lists[expand["out_gate"]]["name"] == f"{block}.expand.0"
    assert not any("depthwise" in gate["name"] for gate in lists)


class Excited(nn.Module):
    """Closed channels stay zero through activations that are expressions, and products."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.first, self.last = conv_bn(3, 10), nn.Conv2d(10, 4, 3)
        self.squeeze, self.between = nn.Linear(10, 10), between

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.silu(self.first(x))
        y = y * torch.sigmoid(self.squeeze(y.mean((2, 3))))[:, :, None, None]
        return self.last(nn.functional.gelu(self.between(y)))


# A channel shuffle is no operation of single numbers: what comes behind it is dense.
@pytest.mark.parametrize(
    ("between", "skips"), [(nn.Identity(), True), (nn.ChannelShuffle(5), False)]
)
def test_zero_is_kept_by_expressions(between: nn.Module, skips: bool) -> None:
    torch.manual_seed(0)
    module = gate(randomise(Excited(between).eval()), density=0.5, layers="first.0").eval()
    images = torch.randn(3, 3, 9, 8)
    bundle = headgate.compile_module(module, images[:1], check=False)
    layers = {layer["name"]: layer for layer in bundle.manifest["layers"]}
    assert (layers["last"]["in_gate"] is not None) == skips
    check_outputs(bundle, module, images, tolerance=1e-5)
    if skips:
        check_bundle(bundle, module, images, tolerance=1e-5)
