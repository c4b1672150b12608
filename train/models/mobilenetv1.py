"""MobileNetV1 for 96x96 images, as MLPerf Tiny has it for visual wake words.

Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
Applications", 2017, at a quarter of its width; Banbury et al., "MLPerf Tiny Benchmark", 2021.
Borders are the same on all sides, where the benchmark's reference network has that of a stride of
two behind the image only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from headgate.train.models.initialise import initialise

STEM = 32
# Outputs at full width, and the stride of the depthwise convolution.
BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1)),
)


def conv_bn_relu(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """A convolution with batch norm and ReLU behind it."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


class MobileNetV1(nn.Module):
    """Pairs of a depthwise 3x3 and a 1x1 convolution, global average pool, one linear layer."""

    def __init__(self, width: float, num_classes: int) -> None:
        super().__init__()
        inputs = int(STEM * width)
        layers = conv_bn_relu(3, inputs, 3, 2)
        for full, stride in BLOCKS:
            outputs = int(full * width)
            layers += conv_bn_relu(inputs, inputs, 3, stride, inputs)
            layers += conv_bn_relu(inputs, outputs, 1)
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(inputs, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> logits (N, num_classes)."""
        return self.fc(torch.mean(self.features(x), (2, 3)))


def mobilenetv1_quarter(num_classes: int = 2) -> MobileNetV1:
    """MobileNetV1 with width 0.25 for (N, 3, 96, 96) images: 7.49 MMACs."""
    return MobileNetV1(0.25, num_classes)
