"""Modules around networks that return more, or take more, than a bundle does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


class First(nn.Module):
    """The first tensor of a nested result: detectors return their maps a second time behind it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return next(tensors(self.network(x)))


class Flat(nn.Module):
    """All tensors of a nested result as one tuple."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensors(self.network(*inputs)))


class BackboneAndHead(nn.Module):
    """The part of a torchvision detector between its image list and its boxes."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensors(self.head(list(self.backbone(x).values()))))


class WholeLength(nn.Module):
    """An acoustic model that also takes lengths, given clips that are not padded."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return next(tensors(self.network(x, torch.full((1,), x.shape[-1], dtype=torch.long))))


def tensors(result: Any) -> Iterator[Tensor]:
    """The tensors of a nested result, in order."""
    if isinstance(result, Tensor):
        yield result
    elif result is not None:
        for one in result.values() if isinstance(result, dict) else result:
            yield from tensors(one)
