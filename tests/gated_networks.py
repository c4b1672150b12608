"""What the tests of gates share: layers and networks with a past, as pretrained ones have."""

from __future__ import annotations

import torch
from torch import nn

from headgate.train.gates import DCPConv2d, gates
from headgate.train.models import create_model

INNER = "block-inner"


def pair(
    inputs: int = 5, outputs: int = 7, bias: bool = False, **geometry: int
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """A float64 convolution and a batch norm with a history, factors of both signs."""
    conv = nn.Conv2d(inputs, outputs, 3, bias=bias, dtype=torch.float64, **geometry)
    norm = nn.BatchNorm2d(outputs, dtype=torch.float64)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    assert norm.running_mean is not None and norm.running_var is not None
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    return conv, norm


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
