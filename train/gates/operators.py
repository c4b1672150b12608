"""The operators that stand for a channel gate in an exported graph.

They are all the compiler knows about gates: ``torch.export`` keeps each as one node. Here they
compute the dense convolution and throw the skipped channels away; the saving is made by the code
that the compiler generates from them.

``headgate::keep_top_k(Tensor saliency, int k) -> Tensor``
``headgate::gated_conv2d(Tensor x, Tensor weight, Tensor scale, Tensor bias, Tensor gate,
Tensor shift, int[] stride, int[] padding, int[] dilation, int groups) -> Tensor``
``headgate::following_conv2d(Tensor x, Tensor weight, Tensor scale, Tensor bias, Tensor gate,
int[] stride, int[] padding, int[] dilation, int groups) -> Tensor``
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


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


@torch.library.custom_op(
    "headgate::gated_conv2d",
    mutates_args=(),
    schema="(Tensor x, Tensor weight, Tensor scale, Tensor bias, Tensor gate, Tensor shift, "
    "int[] stride, int[] padding, int[] dilation, int groups) -> Tensor",
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
    return _gated_conv2d(x, weight, scale, bias, gate, shift, stride, padding, dilation, groups)


def _gated_conv2d(
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
    u = F.conv2d(x, weight, None, stride, padding, dilation, groups)
    u = u * scale[:, None, None] + bias[:, None, None]
    return only_open(gate[:, :, None, None] * u + shift[:, None, None], gate)


@gated_conv2d.register_fake
def _(
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
    y = F.conv2d(x, weight, None, stride, padding, dilation, groups)
    return torch.empty_like(y, memory_format=torch.contiguous_format)


def _conv_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:6])
    ctx.geometry = inputs[6:]


def _conv_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[:6]
    found = _gradients(_gated_conv2d, ctx.saved_tensors, wanted, ctx.geometry, grad)
    return (*found, None, None, None, None)


def _gradients(
    function: Callable[..., Tensor],
    saved: Sequence[Tensor],
    wanted: Sequence[bool],
    settings: tuple[Any, ...],
    grad: Tensor,
) -> list[Tensor | None]:
    """The gradients of ``function(*saved, *settings)`` for the saved tensors that want one."""
    # Evaluation rarely needs a gradient: computing the forward again keeps this right and short.
    with torch.enable_grad():
        tensors = [t.detach().requires_grad_(w) for t, w in zip(saved, wanted, strict=True)]
        y = function(*tensors, *settings)
        active = [t for t, w in zip(tensors, wanted, strict=True) if w]
        found = iter(torch.autograd.grad(y, active, grad))
    return [next(found) if w else None for w in wanted]


gated_conv2d.register_autograd(_conv_backward, setup_context=_conv_setup)


@torch.library.custom_op(
    "headgate::following_conv2d",
    mutates_args=(),
    schema="(Tensor x, Tensor weight, Tensor scale, Tensor bias, Tensor gate, int[] stride, "
    "int[] padding, int[] dilation, int groups) -> Tensor",
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

    y = conv2d(x, weight) * scale[c] + bias[c] where gate != 0, else exactly 0. Unlike in
    :func:`gated_conv2d` the gate's values do not matter, and no gradient reaches them.
    """
    return _following_conv2d(x, weight, scale, bias, gate, stride, padding, dilation, groups)


def _following_conv2d(
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
    u = F.conv2d(x, weight, None, stride, padding, dilation, groups)
    return only_open(u * scale[:, None, None] + bias[:, None, None], gate)


def only_open(u: Tensor, gate: Tensor) -> Tensor:
    """u (N, C, H, W) where gate (N, C) is not zero, else exactly 0."""
    return torch.where(gate[:, :, None, None] != 0, u, torch.zeros_like(u))


@following_conv2d.register_fake
def _(
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
    y = F.conv2d(x, weight, None, stride, padding, dilation, groups)
    return torch.empty_like(y, memory_format=torch.contiguous_format)


def _following_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:5])
    ctx.geometry = inputs[5:]


def _following_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[:4]
    *tensors, gate = ctx.saved_tensors
    found = _gradients(_following_conv2d, tensors, wanted, (gate, *ctx.geometry), grad)
    return (*found, *(None for _ in range(5)))


following_conv2d.register_autograd(_following_backward, setup_context=_following_setup)

# Under autocast the inputs arrive in mixed precision; the folded batch norm wants it all.
for _device in ("cpu", "cuda"):
    gated_conv2d.register_autocast(_device, torch.float32)
    following_conv2d.register_autocast(_device, torch.float32)
