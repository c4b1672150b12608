"""A tensor on its way from PyTorch's layout to TensorFlow's."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Value:
    """A TensorFlow tensor with what is known of the PyTorch tensor it stands for.

    A 4-D tensor (N,C,H,W) is held as (N,H,W,C). Flattening one keeps the elements in NHWC order
    and remembers ``flattened_from``; the linear layer that follows reorders its weights instead
    of transposing the data.
    """

    tensor: Any
    shape: tuple[int, ...]
    """In PyTorch's order."""
    nonnegative: bool = False
    """Known to hold no value below zero, so that zeros pad a maximum as well as -inf does."""
    flattened_from: tuple[int, int, int] | None = None
    """(C,H,W) of a (N,C*H*W) tensor whose elements are in (H,W,C) order."""

    @property
    def is_image(self) -> bool:
        return len(self.shape) == 4

    def with_tensor(self, tensor: Any, shape: tuple[int, ...] | None = None, **known: Any) -> Value:
        """The same knowledge about another tensor."""
        return replace(self, tensor=tensor, shape=shape or self.shape, **known)


def flatten_image(value: Value, reshape: Any) -> Value:
    """(N,C,H,W) -> (N,C*H*W), without moving data."""
    batch, *image = value.shape
    channels, height, width = image
    size = math.prod(image)
    tensor = reshape(value.tensor, (batch, size))
    origin = (channels, height, width) if height * width > 1 and channels > 1 else None
    return value.with_tensor(tensor, (batch, size), flattened_from=origin)
