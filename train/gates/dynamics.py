"""How much a layer's masks depend on the image, and what they tell about its class."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# A channel open for a smaller share of the images, or a larger one than the rest, is fixed: a few
# images at the edge of a threshold make no gate that follows its input.
RARE = 0.02


@dataclass(frozen=True)
class Dynamics:
    """One layer's masks over N images.

    Attributes:
        channels: entries of a mask: channels, or channels times pixels.
        dynamic: how many of them are open for 2 to 98 % of the images.
        masks: how many different masks the images have.
        information: mutual information between an entry's state and the class, in bits, summed
            over the dynamic entries and divided by ``channels``; None without labels.
    """

    channels: int
    dynamic: int
    masks: int
    information: float | None

    @property
    def share(self) -> float:
        """Dynamic entries of all, in 0..1."""
        return self.dynamic / self.channels


def dynamics(mask: Tensor, labels: Tensor | None = None) -> Dynamics:
    """Measures masks (N, C) or (N, C, H, W) of images of the classes ``labels``, int64 (N,)."""
    flat = mask.flatten(1)
    channels = flat.shape[1]
    opened = flat.sum(0).double() / len(flat)
    moving = (opened >= RARE) & (opened <= 1 - RARE)
    return Dynamics(
        channels=channels,
        dynamic=int(moving.sum()),
        masks=len(flat.unique(dim=0)),
        information=None if labels is None else _information(flat[:, moving], labels, channels),
    )


def _information(states: Tensor, labels: Tensor, channels: int) -> float:
    """Sum of the columns' mutual information with the labels over ``channels``, in bits.

    The bias of N images is taken off each, (classes - 1) / 2N nats (Miller, 1955).
    """
    classes, sizes = labels.unique(return_counts=True)
    bits = _entropy(states.sum(0).double() / len(states))
    for one, size in zip(classes, sizes, strict=True):
        opened = states[labels == one].sum(0).double() / size
        bits -= size / len(labels) * _entropy(opened)
    bias = (len(classes) - 1) / (2 * len(labels) * math.log(2))
    return float((bits - bias).clamp_min(0).sum()) / channels


def _entropy(share: Tensor) -> Tensor:
    """Of a state that is open with the probability ``share``, in bits."""
    return -(torch.xlogy(share, share) + torch.xlogy(1 - share, 1 - share)) / math.log(2)
