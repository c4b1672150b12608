"""DS-CNN, the network of depthwise separable convolutions that MLPerf Tiny spots keywords with.

Zhang et al., "Hello Edge: Keyword Spotting on Microcontrollers", 2017, in the size that Banbury
et al., "MLPerf Tiny Benchmark", 2021, have. Its images are 49 frames of 10 cepstral coefficients.
The first convolution has five rows of border on either side, where the benchmark's reference
network has four above and five below.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from headgate.train.models.initialise import initialise

CHANNELS = 64
BLOCKS = 4


class DSCNN(nn.Module):
    """A 10x4 convolution, four depthwise separable ones, global average pool, one linear layer."""

    def __init__(self, num_classes: int = 12, dropout: float = 0.2) -> None:
        super().__init__()
        first = nn.Conv2d(1, CHANNELS, (10, 4), stride=2, padding=(5, 1), bias=False)
        layers = [first, nn.BatchNorm2d(CHANNELS), nn.ReLU(), nn.Dropout(dropout)]
        for _ in range(BLOCKS):
            layers += [
                nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS, bias=False),
                *(nn.BatchNorm2d(CHANNELS), nn.ReLU()),
                nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False),
                *(nn.BatchNorm2d(CHANNELS), nn.ReLU()),
            ]
        self.features = nn.Sequential(*layers, nn.Dropout(2 * dropout))
        self.fc = nn.Linear(CHANNELS, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Spectrograms (N, 1, 49, 10) -> logits (N, num_classes)."""
        return self.fc(torch.mean(self.features(x), (2, 3)))


def ds_cnn(num_classes: int = 12, dropout: float = 0.2) -> DSCNN:
    """DS-CNN: 2.66 MMACs."""
    return DSCNN(num_classes, dropout)
