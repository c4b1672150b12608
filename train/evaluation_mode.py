"""A block in which a network is in evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[nn.Module]:
    """``module`` in evaluation mode; afterwards each of its parts is as it was before."""
    training = [part for part in module.modules() if part.training]
    try:
        yield module.eval()
    finally:
        for part in training:
            part.training = True
