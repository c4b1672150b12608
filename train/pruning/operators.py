"""The operator that puts the channels a pruned layer has left back among all those of a sum."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn


@torch.library.custom_op(
    "headgate::place_channels",
    mutates_args=(),
    schema="(Tensor x, Tensor constant, int[] channels) -> Tensor",
)
def place_channels(x: Tensor, constant: Tensor, channels: Sequence[int]) -> Tensor:
    """``constant`` at every pixel, and x in the channels named.

    x is (N, K, H, W), ``constant`` (C,), ``channels`` the K destinations in rising order; the
    result is (N, C, H, W) with result[:, channels] = x.
    """
    total = constant.shape[0]
    if len(channels) != x.shape[1] or not rise_within(channels, total):
        raise ValueError(
            f"place_channels: channels {list(channels)} must be {x.shape[1]} rising numbers "
            f"within 0..{total - 1}"
        )
    result = _empty(x, constant).copy_(constant[None, :, None, None])
    result[:, list(channels)] = x
    return result


def rise_within(channels: Sequence[int], total: int) -> bool:
    """Whether the numbers rise, within 0 .. total - 1."""
    return all(a < b for a, b in pairwise([-1, *channels, total]))


def _empty(x: Tensor, constant: Tensor) -> Tensor:
    return x.new_empty((x.shape[0], constant.shape[0], *x.shape[2:]))


@place_channels.register_fake
def _(x: Tensor, constant: Tensor, channels: Sequence[int]) -> Tensor:
    return _empty(x, constant)


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor, Sequence[int]], output: Tensor) -> None:
    ctx.channels = list(inputs[2])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    placed, constant = ctx.needs_input_grad[:2]
    by_channel = None
    if constant:
        by_channel = grad.sum(dim=(0, 2, 3))
        by_channel[ctx.channels] = 0
    return (grad[:, ctx.channels] if placed else None, by_channel, None)


place_channels.register_autograd(_backward, setup_context=_setup)

# A constant in float32 beside activations in bfloat16: one result type, the wider.
for _device in ("cpu", "cuda"):
    place_channels.register_autocast(_device, torch.float32)


class PlaceChannels(nn.Module):
    """Puts K channels among C - K trainable constants; see :func:`place_channels`."""

    def __init__(self, constant: Tensor, channels: Sequence[int]) -> None:
        super().__init__()
        self.constant = nn.Parameter(constant)
        self.channels = [int(channel) for channel in channels]

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.headgate.place_channels(x, self.constant, self.channels)

    def extra_repr(self) -> str:
        return f"{len(self.channels)} of {len(self.constant)}"
