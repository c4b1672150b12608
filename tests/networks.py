"""Networks that the tests compile: ours with random statistics, small ones of other families."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headgate.cli import main
from headgate.compile import compile_module
from headgate.device import Bundle
from headgate.networks import compile_network, find_network
from headgate.train.gates import gate, gates
from headgate.train.models import create_model, input_shape
from tests.session_cache import once


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Batch norms as after training: no factor is one, no mean is zero. Evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_(0, 0.2, generator=generator)
            norm.running_var.uniform_(0.5, 1.5, generator=generator)
            if norm.affine:
                norm.weight.data.uniform_(0.5, 1.5, generator=generator)
                norm.bias.data.normal_(0, 0.2, generator=generator)
    return module.eval()


def conv_bn(inputs: int, outputs: int, kernel: int = 3, **options: int) -> nn.Sequential:
    """A convolution as gates want them: batch norm behind it."""
    options = {"padding": kernel // 2} | options
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, bias=False, **options),  # type: ignore[arg-type]
        nn.BatchNorm2d(outputs),
    )


class Branches(nn.Module):
    """In no family of ours: a layer with two consumers, two branches, concat, 5x5 stride 3."""

    shape = (3, 31, 29)

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 13, 5, stride=3, padding=1)
        self.left = conv_bn(13, 7, 1)
        self.right = conv_bn(13, 11, 3)
        self.down = conv_bn(18, 9, 3, stride=2)
        self.again = conv_bn(9, 9, 3)
        self.pool = nn.MaxPool2d(2, ceil_mode=False)
        self.head = nn.Linear(9 * 2 * 2, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = torch.cat([F.relu(self.left(x)), F.relu(self.right(x))], 1)
        x = F.relu(self.down(x))
        x = F.relu(self.again(x) + x)
        return self.head(self.pool(x).flatten(1))


class Inverted(nn.Module):
    """As in MobileNetV2: expand, depthwise, project, ReLU6, a sum without an activation."""

    shape = (3, 16, 16)

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 8, 3, stride=2)
        self.expand = conv_bn(8, 24, 1)
        self.depthwise = conv_bn(24, 24, 3, groups=24)
        self.project = conv_bn(24, 8, 1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.stem(x))
        y = F.relu6(self.depthwise(F.relu6(self.expand(x))))
        x = x + self.project(y)
        return self.head(x.mean((2, 3)))


class Preactivation(nn.Module):
    """Batch norm and ReLU before each convolution."""

    shape = (3, 12, 12)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            y = conv(F.relu(norm(y)))
        return F.softmax(self.head((x + y).mean((2, 3))), 1)


class SqueezeExcite(nn.Module):
    """A block that scales its channels, hardswish, average pooling with ceil_mode."""

    shape = (3, 13, 13)

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv_bn(3, 12)
        self.reduce, self.expand = nn.Conv2d(12, 4, 1), nn.Conv2d(4, 12, 1)
        self.pool = nn.AvgPool2d(3, 2, ceil_mode=True)
        self.head = conv_bn(12, 6, 3, groups=3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.conv(x))
        scale = F.relu(self.reduce(F.adaptive_avg_pool2d(x, 1)))
        return self.head(self.pool(x * torch.sigmoid(self.expand(scale)))).flatten(1)


class PaddedShortcut(nn.Module):
    """Shortcut option A: every other pixel, channels of zeros around."""

    shape = (3, 12, 12)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = conv_bn(3, 8), conv_bn(8, 16, 3, stride=2)
        self.last = conv_bn(16, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.last(F.relu(self.down(x))) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)))
        return self.head(F.avg_pool2d(x, 6).flatten(1))


class ChannelSplit(nn.Module):
    """As in ShuffleNetV2: half of the channels pass by, then all are shuffled."""

    shape = (3, 10, 10)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch = conv_bn(3, 12), conv_bn(6, 6)
        self.shuffle = nn.ChannelShuffle(2)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        left, right = F.relu(self.stem(x)).chunk(2, 1)
        x = self.shuffle(torch.cat([left, F.relu(self.branch(right))], 1))
        return self.head(x.mean((2, 3)))


class TwoScales(nn.Module):
    """Two inputs, two outputs, transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.vector = conv_bn(3, 6), nn.Linear(5, 6)
        self.up = nn.ConvTranspose2d(6, 4, 3, stride=2)

    def forward(self, image: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.image(image) + self.vector(vector)[:, :, None, None])
        return self.up(x), x.mean((2, 3))


class Shared(nn.Module):
    """One convolution called twice, with other batch norms, and a gated pair flattened."""

    shape = (4, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4)])
        self.a, self.b = conv_bn(4, 5), conv_bn(4, 6)
        self.head = nn.Linear(11 * 64, 4)

    def forward(self, x: Tensor) -> Tensor:
        for norm in self.norms:
            x = F.relu(norm(self.twice(x)))
        return self.head(torch.cat([F.relu(self.a(x)).flatten(1), self.b(x).flatten(1)], 1))


class Selective(nn.Module):
    """Masks and indices between operators: PReLU, reflected borders, a choice of channels."""

    shape = (3, 9, 8)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect")
        self.slope = nn.PReLU(6)
        self.head = conv_bn(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.slope(self.stem(x))[:, [4, 0, 2, 5]]
        return self.head(torch.where(x > 1, torch.ones_like(x), x)).flatten(1)


FOREIGN: dict[str, type[nn.Module]] = {
    "branches": Branches,
    "inverted": Inverted,
    "preactivation": Preactivation,
    "squeeze-excite": SqueezeExcite,
    "padded-shortcut": PaddedShortcut,
    "channel-split": ChannelSplit,
    "shared": Shared,
    "selective": Selective,
}


def network(name: str, density: float | None = None) -> tuple[nn.Module, tuple[int, int, int]]:
    """A network with random weights, gated unless density is None, and its input's shape.

    Density 0 closes every gate: all saliencies are negative before their ReLU.
    """
    torch.manual_seed(0)
    foreign = FOREIGN.get(name)
    module = randomise(create_model(name) if foreign is None else foreign())
    shape = input_shape(name) if foreign is None else foreign.shape
    if density is None:
        return module, shape
    gated = gate(module, method="fbs", density=density or 1.0).eval()
    if density == 0:
        for layer in gates(gated).values():
            layer.predictor.weight.data.zero_()
            layer.predictor.bias.data.fill_(-1.0)
    return gated, shape


@cache
def compiled(name: str, density: float | None, target: str, samples: int = 2) -> Bundle:
    """A bundle with ``samples`` random test vectors, the same in all of a session's processes."""

    def make() -> bytes:
        module, shape = network(name, density)
        generator = torch.Generator().manual_seed(1)
        vectors = torch.randn(samples, *shape, generator=generator).numpy()
        # Every test compares what it compiles with PyTorch.
        return compile_module(
            module, vectors, target=target, name=name, vectors=vectors, check=False
        ).to_bytes()

    return Bundle.open(once("bundle", (name, density, target, samples), make))


@cache
def shipped(name: str, target: str) -> Bundle:
    """A network of the package, compiled as ``headgate compile`` does."""

    def make() -> bytes:
        return compile_network(find_network(name), target).to_bytes()

    return Bundle.open(once("shipped", (name, target), make))


@cache
def converted(name: str, quantize: str | None = None) -> Path:
    """A network of the package as a ``.tflite`` file, as ``headgate compile`` makes it."""

    def make() -> bytes:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "network.tflite"
            options = ["--backend", "tflite", *(["--quantize", quantize] if quantize else [])]
            assert main(["compile", name, *options, "-o", str(path)]) == 0
            return path.read_bytes()

    return once("tflite", (name, quantize), make)


class Apply(nn.Module):
    """A convolution, then any function of its result."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 6, 3, padding=1)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.first(x))


class MixedLayers(nn.Module):
    """ReLU6, depthwise, grouped, dilated and 1x1 convolutions, a concatenation, odd channels.

    The base of a network: what is behind its (N, 32, H, W) is the business of a subclass.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 13, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(13, 13, 3, padding=1, groups=13)
        self.wide = nn.Conv2d(13, 13, 5, padding=2, groups=13, bias=False)
        self.point = nn.Conv2d(13, 22, 1)
        self.grouped = nn.Conv2d(22, 10, 3, padding=2, dilation=2, groups=2)

    def features(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x), inplace=True)
        x = F.relu6(self.depthwise(x)) + torch.relu(self.wide(x))
        x = self.point(x)
        y = self.grouped(F.max_pool2d(x, 3, 1, 1))
        return F.avg_pool2d(torch.cat([x, y], 1), 2)
