"""What tests of gate() ask of a network that it is given, and of the one that it makes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch.nn.functional as F
from torch import Tensor, nn

from headgate.errors import ModelError
from headgate.train.gates import find_convolutions, gate


def distance(found: nn.Module, expected: nn.Module, x: Tensor) -> float:
    """Largest difference in evaluation and in training, as a share of the scale."""
    differences = []
    for training in (False, True):
        a, b = (copy.deepcopy(m).train(training)(x.clone()) for m in (expected, found))
        differences.append(((a - b).abs().max() / a.abs().max().clamp_min(1e-2)).item())
    return max(differences)


def same(module: nn.Module, **options: Any) -> nn.Module:
    return gate(module, density=1.0, predictor_std=0.0, **options)


def reason(module: nn.Module, path: str = "0") -> str:
    """Why a layer cannot be gated, which gate() says too."""
    found = find_convolutions(module)[path].obstacle
    assert found is not None
    with pytest.raises(ModelError) as refused:
        gate(module, layers=[path])
    assert found in str(refused.value) and "\n" not in str(refused.value)
    return found


class Whole(nn.Module):
    """The network that is given to gate() with something in front of or behind ``conv``."""

    def __init__(self, conv: nn.Module | None = None, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.conv, self.norm = conv or nn.Conv2d(3, 8, 3, padding=1), norm or nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))
