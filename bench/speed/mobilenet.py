"""MobileNetV2 (https://arxiv.org/abs/1801.04381) of width 1, layer by layer timm's mobilenetv2_100.

Written down here because timm brings torchvision along, and no weights of it are needed.
"""

from __future__ import annotations

from torch import Tensor, nn

IMAGE = (3, 224, 224)
_STEM, _HEAD = 32, 1280
# Expansion, output channels, blocks, stride of the first one.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class MobileNetV2(nn.Module):
    """Images (N, 3, 224, 224) to scores (N, 1000), with PyTorch's initial weights."""

    def __init__(self) -> None:
        super().__init__()
        blocks, channels = [], _STEM
        for expansion, width, count, stride in _STAGES:
            for index in range(count):
                blocks.append(_Block(channels, width, expansion, stride if index == 0 else 1))
                channels = width
        self.stem = _convolution(3, _STEM, 3, stride=2)
        self.blocks = nn.Sequential(*blocks)
        self.head = _convolution(channels, _HEAD, 1)
        self.classifier = nn.Linear(_HEAD, 1000)

    def forward(self, image: Tensor) -> Tensor:
        features = self.head(self.blocks(self.stem(image)))
        scores: Tensor = self.classifier(features.mean((2, 3)))
        return scores


class _Block(nn.Module):
    """Expansion, depthwise convolution, projection; the input is added where shapes are equal."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand = _convolution(inputs, width, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _convolution(width, width, 3, stride=stride, groups=width)
        self.project = nn.Sequential(
            nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.adds else y


def _convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU6())
