"""Functions of one tensor, compiled together and compared with PyTorch one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import headgate

Use = Callable[[Tensor], Tensor] | nn.Module
TOGETHER = 16
"""Uses in one network, as many as a bundle has results: compiling is most of the time."""


class Each(nn.Module):
    """One result for each use."""

    def __init__(self, uses: Mapping[str, Use]) -> None:
        super().__init__()
        self.uses = list(uses.values())
        self.parts = nn.ModuleList(use for use in self.uses if isinstance(use, nn.Module))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(use(x) for use in self.uses)


def in_groups(uses: Mapping[str, Use]) -> list[dict[str, Use]]:
    """Networks' worth of uses."""
    names = list(uses)
    starts = range(0, len(names), TOGETHER)
    return [{name: uses[name] for name in names[i : i + TOGETHER]} for i in starts]


def check_uses(
    uses: Mapping[str, Use], shape: tuple[int, ...], folder: Path, tolerance: float = 1e-5
) -> None:
    """Every use compiled computes what PyTorch does, as a share of its largest number.

    ``shape`` is that of one image, with its batch of one.
    """
    for group in in_groups(uses):
        _check_together(group, shape, folder, tolerance)


def _check_together(
    uses: Mapping[str, Use], shape: tuple[int, ...], folder: Path, tolerance: float
) -> None:
    module = Each(uses).eval()
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(3, *shape[1:], generator=generator)
    path = folder / "uses.hgb"
    headgate.compile_module(module, images[:1], check=False).save(path)
    with torch.no_grad():
        expected = [torch.cat([use(x[None].clone()) for x in images]) for use in module.uses]
    with headgate.load(path) as program:
        found = program.run(images.numpy())
    found = found if isinstance(found, tuple) else (found,)
    for name, got, wanted in zip(uses, found, expected, strict=True):
        scale = float(wanted.abs().max())
        assert scale > 0, f"{name}: its use shows nothing"
        np.testing.assert_allclose(
            got, wanted.numpy(), rtol=0, atol=tolerance * scale, err_msg=name
        )
