"""VGG-16 with batch norm, for 32x32 and for 224x224 images.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
ICLR 2015, configuration D.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from headgate.train.models.initialise import initialise

# Output channels of the 3x3 convolutions, stage by stage; a 2x2 maximum pool ends each stage.
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG(nn.Module):
    """``features`` (convolutions and pools), flattened into ``classifier``."""

    def __init__(self, features: nn.Sequential, classifier: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) of the size the classifier was made for -> logits (N, classes)."""
        return self.classifier(torch.flatten(self.features(x), 1))


def _features(bias: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    in_channels = 3
    for stage in STAGES:
        for out_channels in stage:
            layers += [
                nn.Conv2d(in_channels, out_channels, 3, 1, 1, bias=bias),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(),
            ]
            in_channels = out_channels
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


def vgg16(num_classes: int = 10, dropout: float = 0.5) -> VGG:
    """VGG-16 for (N, 3, 32, 32) images with the head 512-512-classes: 313.5 MMACs."""
    classifier = nn.Sequential(
        nn.Linear(512, 512), nn.ReLU(), nn.Dropout(dropout), nn.Linear(512, num_classes)
    )
    return VGG(_features(bias=False), classifier)


def vgg16_imagenet(num_classes: int = 1000, dropout: float = 0.5) -> VGG:
    """VGG-16 for (N, 3, 224, 224) images: 15.47 GMACs.

    State-dict names and convolution biases as in torchvision's ``vgg16_bn``, whose published
    weights load.
    """
    classifier = nn.Sequential(
        nn.Linear(512 * 7 * 7, 4096),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(4096, num_classes),
    )
    return VGG(_features(bias=True), classifier)
