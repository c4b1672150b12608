"""Convolutions of any dtype: their shape, and what a kernel of one is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Clamp = tuple[float | None, float | None]
"""The bounds of an activation, lower and upper; None: there is none."""


@dataclass(frozen=True)
class ConvShape:
    """A convolution; padding is (top, left, bottom, right), batch one."""

    in_channels: int
    out_channels: int
    height: int
    width: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def out_height(self) -> int:
        span = (self.kernel[0] - 1) * self.dilation[0] + 1
        return (self.height + self.padding[0] + self.padding[2] - span) // self.stride[0] + 1

    @property
    def out_width(self) -> int:
        span = (self.kernel[1] - 1) * self.dilation[1] + 1
        return (self.width + self.padding[1] + self.padding[3] - span) // self.stride[1] + 1

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def pixels(self) -> int:
        return self.out_height * self.out_width

    @property
    def group_in(self) -> int:
        return self.in_channels // self.groups

    @property
    def group_out(self) -> int:
        return self.out_channels // self.groups

    @property
    def pointwise(self) -> bool:
        return self.taps == 1 and self.stride == (1, 1) and not any(self.padding)

    @property
    def macs_per_pair(self) -> int:
        """Multiplications for one input channel seen by one output channel."""
        return self.taps * self.pixels


def by_channel(attributes: Mapping[str, Any], numbers: np.ndarray) -> np.ndarray:
    """One number for each channel of a convolution's result, of one for each output."""
    if "placed" not in attributes:
        return numbers
    found = np.zeros(len(attributes["constant"]), numbers.dtype)
    found[list(attributes["placed"])] = numbers
    return found


@dataclass(frozen=True)
class Epilogue:
    """What happens to a sum before it is stored, in this order.

    ``gate``: multiply by the channel's gate and add its shift. ``residual``: add another tensor,
    ``"in_place"`` when it lies where the result goes, ``"separate"`` when not. ``clamp``: the
    activation's bounds. ``means``: sum up every channel too, for the gate of a later layer.
    """

    gate: bool = False
    residual: str | None = None
    clamp: Clamp = (None, None)
    means: bool = False


@dataclass(frozen=True)
class ConvRequest:
    """What the kernel of a convolution is asked for."""

    shape: ConvShape
    epilogue: Epilogue
    gated_in: bool = False
    """Whether its input has a list, of which it visits the active channels."""
    clamp_inactive: bool = False
    """Whether inactive output channels are to become the activation of the residual."""
    placed: int = 0
    """Channels of the tensor among which the outputs are placed; 0: there are no others."""
