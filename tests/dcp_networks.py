"""What the tests of DCP share: a network with a past, and its gated layers."""

from __future__ import annotations

import torch
from torch import nn

from headgate.train.gates import DCPConv2d, gates
from headgate.train.models import create_model

INNER = "block-inner"


def pretrained(name: str = "resnet8") -> nn.Module:
    module = create_model(name)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    module.train()(torch.randn(16, 3, 32, 32))
    return module.eval()


def dcp_layers(module: nn.Module) -> list[DCPConv2d]:
    return [layer for layer in gates(module).values() if isinstance(layer, DCPConv2d)]
