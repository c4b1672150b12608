"""M-CifarNet, the small VGG-like network that FBS was shown on.

Gao et al., "Dynamic Channel Pruning: Feature Boosting and Suppression", ICLR 2019; the table
follows the official code (deep-fry/mayo, models/cifarnet.yaml).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from headgate.train.models.initialise import initialise

# (output channels, stride, padding, dropout after it)
LAYERS = (
    (64, 1, 0, False),
    (64, 1, 1, False),
    (128, 2, 1, False),
    (128, 1, 1, True),
    (128, 1, 1, False),
    (192, 2, 1, False),
    (192, 1, 1, True),
    (192, 1, 1, False),
)


class MCifarNet(nn.Module):
    """Eight 3x3 convolutions with batch norm and ReLU, global average pool, one linear layer.

    The final 1x1 convolution of the official code acts on one pixel and is a linear layer here.
    """

    def __init__(self, num_classes: int = 10, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = nn.Sequential()
        in_channels = 3
        for i, (out_channels, stride, padding, drops) in enumerate(LAYERS):
            conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding, bias=False)
            self.features.add_module(f"conv{i}", conv)
            self.features.add_module(f"bn{i}", nn.BatchNorm2d(out_channels))
            self.features.add_module(f"relu{i}", nn.ReLU())
            if drops:
                self.features.add_module(f"dropout{i}", nn.Dropout(dropout))
            in_channels = out_channels
        self.fc = nn.Linear(in_channels, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, 32, 32) -> logits (N, num_classes)."""
        return self.fc(torch.mean(self.features(x), (2, 3)))


def mcifarnet(num_classes: int = 10, dropout: float = 0.5) -> MCifarNet:
    """M-CifarNet: 174.30 MMACs."""
    return MCifarNet(num_classes, dropout)
