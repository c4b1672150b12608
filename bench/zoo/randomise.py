"""Weights and statistics that hide no fault.

A fresh network has batch norms that change nothing, factors of 1 and 0, and layer scales of 1e-6:
a compiler that leaves any of them out would still be right.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def randomise(network: nn.Module, inputs: Sequence[Tensor], seed: int = 0) -> None:
    """Give constant parameters spread, and batch norms the statistics of random inputs, shaken.

    ``inputs`` has one (1, ...) tensor for each input. The network is left in evaluation mode,
    and without gradients.
    """
    generator = torch.Generator().manual_seed(seed)
    network.eval().requires_grad_(False)
    for parameter in network.parameters():
        _spread(parameter, generator)
    norms = [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    ]
    _settle(network, norms, inputs, generator)
    for norm in norms:
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None and variance is not None
        variance.mul_(0.7 + 0.6 * torch.rand(variance.shape, generator=generator)).add_(1e-4)
        mean.add_(0.1 * variance.sqrt() * torch.randn(mean.shape, generator=generator))


def _spread(parameter: Tensor, generator: torch.Generator) -> None:
    if parameter.numel() < 2 or not parameter.is_floating_point():
        return
    if float(parameter.max() - parameter.min()) != 0:
        return
    if abs(float(parameter.flatten()[0])) < 0.05:
        parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    else:
        parameter.mul_(0.7 + 0.6 * torch.rand(parameter.shape, generator=generator))


def _settle(
    network: nn.Module,
    norms: Sequence[_BatchNorm],
    inputs: Sequence[Tensor],
    generator: torch.Generator,
) -> None:
    """The statistics of one batch; random ones where the network takes no batch of four."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    try:
        with torch.no_grad():
            network(*[torch.randn(4, *one.shape[1:], generator=generator) for one in inputs])
    except Exception:  # whatever the network's own code raises
        for norm in norms:
            assert norm.running_mean is not None and norm.running_var is not None
            norm.running_mean.normal_(0, 0.1, generator=generator)
            norm.running_var.uniform_(0.7, 1.3, generator=generator)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
