"""Networks of random weights whose activations are of ordinary size.

Time does not depend on the values, but it would on values that overflow or underflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def settle(module: torch.nn.Module, images: torch.Tensor) -> torch.nn.Module:
    """The module in evaluation mode, its batch norms with the statistics of (N,C,H,W) images."""
    import torch

    for norm in module.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = 1.0  # one batch decides
    with torch.no_grad():
        module.train()(images.clone())  # forward() may change its input
    return module.eval()


def random_images(count: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal (count, *shape), the same at every call."""
    import torch

    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))
