"""A network of a zoo, before it is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Network:
    """A network of a zoo.

    ``name`` is ``zoo:network``, ``family`` the kind of architecture or task it stands for,
    ``build`` makes it with random weights, ``shapes`` has the shape of each input without the
    batch: the smallest that the network takes where that is much cheaper than the usual one.
    """

    name: str
    family: str
    build: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]


def image(size: int, channels: int = 3) -> tuple[tuple[int, ...], ...]:
    """The shapes of a network that takes one square image."""
    return ((channels, size, size),)
