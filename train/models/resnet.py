"""ResNet-18, -34 and -50 for 224x224 images, and ResNet-18 for 32x32.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, Table 1. State-dict names
are torchvision's, so its published weights load; like torchvision, the bottleneck has its stride
in the 3x3 convolution.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headgate.train.models.initialise import initialise


def _downsample(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around the identity (or a 1x1 convolution where shapes change)."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _downsample(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, width, ceil(H/stride), ceil(W/stride))."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions; the output has four times ``width`` channels."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _downsample(in_channels, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, 4 * width, ceil(H/stride), ceil(W/stride))."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """7x7 stem, maximum pool, four stages of 64, 128, 256 and 512 channels, linear classifier.

    For small images the stem is a 3x3 convolution without stride, and there is no maximum pool.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: tuple[int, int, int, int],
        num_classes: int = 1000,
        small_images: bool = False,
    ) -> None:
        super().__init__()
        kernel, stride = (3, 1) if small_images else (7, 2)
        self.conv1 = nn.Conv2d(3, 64, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.Identity() if small_images else nn.MaxPool2d(3, 2, 1)
        out = block.expansion
        self.layer1 = _stage(block, 64, 64, blocks[0], 1)
        self.layer2 = _stage(block, 64 * out, 128, blocks[1], 2)
        self.layer3 = _stage(block, 128 * out, 256, blocks[2], 2)
        self.layer4 = _stage(block, 256 * out, 512, blocks[3], 2)
        self.fc = nn.Linear(512 * out, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> logits (N, num_classes)."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.mean(x, (2, 3)))


def _stage(
    block: type[BasicBlock] | type[Bottleneck],
    in_channels: int,
    width: int,
    blocks: int,
    stride: int,
) -> nn.Sequential:
    first = block(in_channels, width, stride)
    out_channels = width * block.expansion
    return nn.Sequential(first, *(block(out_channels, width, 1) for _ in range(blocks - 1)))


def resnet18(num_classes: int = 1000) -> ResNet:
    """ResNet-18: 1,814 MMACs at 224x224."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes)


def resnet34(num_classes: int = 1000) -> ResNet:
    """ResNet-34: 3,664 MMACs at 224x224."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes)


def resnet50(num_classes: int = 1000) -> ResNet:
    """ResNet-50: 4,089 MMACs at 224x224."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes)


def resnet18_cifar(num_classes: int = 10) -> ResNet:
    """ResNet-18 for 32x32 images, as the CIFAR figures of papers have it: 555.4 MMACs."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, small_images=True)
