"""Residual networks for 32x32 images: ResNet-20/32/56/110 and MLPerf Tiny's ResNet-8.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2: three stages of
16, 32 and 64 channels, n blocks each, depth 6n + 2. ResNet-8 is the same with one block a stage
(Banbury et al., "MLPerf Tiny Benchmark", 2021); its shortcuts are 1x1 convolutions with a bias
and no batch norm, as in the benchmark's reference network.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headgate.errors import UsageError, suggest
from headgate.train.models.initialise import initialise

Shortcut = Literal["A", "B", "conv"]
SHORTCUTS = ("A", "B", "conv")

# Channels of the first stage, in the papers.
WIDTH = 16


class PaddedShortcut(nn.Module):
    """Option A: every second pixel, missing channels filled with zeros. No parameters."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, ceil(H/stride), ceil(W/stride))."""
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))


def make_shortcut(kind: Shortcut, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The skip path of a block: the identity where shapes agree, else option ``kind``."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if kind == "A":
        return PaddedShortcut(in_channels, out_channels, stride)
    if kind == "conv":
        return nn.Conv2d(in_channels, out_channels, 1, stride)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, ReLU between and after the sum."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, shortcut: Shortcut
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = make_shortcut(shortcut, in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, ceil(H/stride), ceil(W/stride))."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """Residual network of depth ``6 * blocks + 2`` for (N, 3, 32, 32) images.

    Where shapes change, the ``shortcut`` "A" pads with zeros, "B" is a 1x1 convolution with batch
    norm, "conv" one with bias. The stages have ``width``, 2 and 4 times as many channels.

    Raises:
        UsageError: an unknown ``shortcut``, a ``width`` that is not at least 1.
    """

    def __init__(
        self,
        blocks: int = 3,
        num_classes: int = 10,
        shortcut: Shortcut = "B",
        width: int = WIDTH,
    ) -> None:
        super().__init__()
        if shortcut not in SHORTCUTS:
            raise UsageError(f"unknown shortcut {shortcut!r}.{suggest(str(shortcut), SHORTCUTS)}")
        if width < 1:
            raise UsageError(f"width = {width!r}, but must be at least 1")
        self.conv = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.stage1 = _stage(width, width, blocks, 1, shortcut)
        self.stage2 = _stage(width, 2 * width, blocks, 2, shortcut)
        self.stage3 = _stage(2 * width, 4 * width, blocks, 2, shortcut)
        self.fc = nn.Linear(4 * width, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> logits (N, num_classes)."""
        x = F.relu(self.bn(self.conv(x)))
        x = self.stage3(self.stage2(self.stage1(x)))
        return self.fc(torch.mean(x, (2, 3)))


def _stage(
    in_channels: int, out_channels: int, blocks: int, stride: int, shortcut: Shortcut
) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride, shortcut)
    rest = [BasicBlock(out_channels, out_channels, 1, shortcut) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


def resnet8(num_classes: int = 10, shortcut: Shortcut = "conv", width: int = WIDTH) -> CifarResNet:
    """MLPerf Tiny's image classification network: 12.50 MMACs, 77.7 k parameters."""
    return CifarResNet(1, num_classes, shortcut, width)


def resnet20(num_classes: int = 10, shortcut: Shortcut = "B", width: int = WIDTH) -> CifarResNet:
    """ResNet-20: 40.8 MMACs with option B."""
    return CifarResNet(3, num_classes, shortcut, width)


def resnet32(num_classes: int = 10, shortcut: Shortcut = "B", width: int = WIDTH) -> CifarResNet:
    """ResNet-32: about 69 MMACs."""
    return CifarResNet(5, num_classes, shortcut, width)


def resnet56(num_classes: int = 10, shortcut: Shortcut = "B", width: int = WIDTH) -> CifarResNet:
    """ResNet-56: 125.7 MMACs with option B."""
    return CifarResNet(9, num_classes, shortcut, width)


def resnet110(num_classes: int = 10, shortcut: Shortcut = "B", width: int = WIDTH) -> CifarResNet:
    """ResNet-110: 253.1 MMACs with option B."""
    return CifarResNet(18, num_classes, shortcut, width)
