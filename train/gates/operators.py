"""The operators of channel gates: the k largest saliencies, and convolutions behind a gate."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from headgate.train.gates.define import convolution


@torch.library.custom_op(
    "headgate::keep_top_k", mutates_args=(), schema="(Tensor saliency, int k) -> Tensor"
)
def keep_top_k(saliency: Tensor, k: int) -> Tensor:
    """Saliency (N, C) with all but the k largest entries of each row set to zero.

    An entry stays when it is strictly greater than the (k+1)-th largest of its row, so ties at
    the threshold all go, and fewer than k remain. ``k == C`` keeps everything. The gradient
    passes to the entries that stay (FBS, ICLR 2019, Eq. 6; the mask is a constant).

    Raises:
        ValueError: k outside 0..C.
    """
    channels = saliency.shape[1]
    if not 0 <= k <= channels:
        raise ValueError(f"keep_top_k: k = {k} is outside 0..{channels}, the number of channels")
    if k == channels:
        return saliency.clone()
    threshold = torch.topk(saliency, k + 1, dim=1).values[:, k:]
    return torch.where(saliency > threshold, saliency, torch.zeros_like(saliency))


@keep_top_k.register_fake
def _(saliency: Tensor, k: int) -> Tensor:
    return torch.empty_like(saliency)


def _keep_setup(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
    ctx.save_for_backward(output != 0)


def _keep_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    (kept,) = ctx.saved_tensors
    return grad * kept, None


keep_top_k.register_autograd(_keep_backward, setup_context=_keep_setup)


@convolution(
    "gated_conv2d(Tensor x, Tensor weight, Tensor scale, Tensor bias, Tensor gate, Tensor shift, "
    "int[] stride, int[] padding, int[] dilation, int groups) -> Tensor"
)
def gated_conv2d(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor,
    gate: Tensor,
    shift: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    """A convolution whose output channels are scaled by ``gate`` (N, C), zero meaning skipped.

    u = conv2d(x, weight) * scale[c] + bias[c] is the convolution with its folded batch norm and
    y = gate * u + shift[c] where gate != 0, else 0. There is no ReLU inside. x is
    (N, C_in, H, W), weight (C, C_in / groups, kernel height, kernel width), the result
    (N, C, H_out, W_out).
    """
    u = F.conv2d(x, weight, None, stride, padding, dilation, groups)
    u = u * scale[:, None, None] + bias[:, None, None]
    return only_active(gate[:, :, None, None] * u + shift[:, None, None], gate)


@convolution(
    "following_conv2d(Tensor x, Tensor weight, Tensor scale, Tensor bias, Tensor gate, "
    "int[] stride, int[] padding, int[] dilation, int groups) -> Tensor"
)
def following_conv2d(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor,
    gate: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    """A convolution that computes the output channels where ``gate`` (N, C) is not zero.

    y = conv2d(x, weight) * scale[c] + bias[c] where gate != 0, else exactly 0.
    """
    u = F.conv2d(x, weight, None, stride, padding, dilation, groups)
    return only_active(u * scale[:, None, None] + bias[:, None, None], gate)


def only_active(u: Tensor, gate: Tensor) -> Tensor:
    """u (N, C, H, W) where gate (N, C) is not zero, else exactly 0."""
    return torch.where(gate[:, :, None, None] != 0, u, torch.zeros_like(u))
