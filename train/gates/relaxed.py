"""Gradients for masks: what a channel would change, were it a little more open, or wholly.

A comparison has no gradient, so a channel that is closed learns nothing from it. Here the forward
pass has a hard mask all the same, and only the backward pass differs. Bengio, Leonard, Courville,
"Estimating or Propagating Gradients Through Stochastic Neurons", 2013, arXiv 1308.3432 (straight
through); Jang, Gu, Poole, "Categorical Reparameterization with Gumbel-Softmax", ICLR 2017, arXiv
1611.01144 (noise and the slope of a sigmoid); gates of channels by it: Bejnordi et al., ICLR 2020.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Nothing beside activations, and still above zero in half precision.
GLIMMER = 1e-7

# Keeps a uniform number off 0 and 1, where its logit is infinite.
EDGE = 1e-6


def logistic_like(logits: Tensor) -> Tensor:
    """Numbers of the standard logistic distribution, the difference of two Gumbel numbers."""
    return torch.logit(torch.rand_like(logits), EDGE)


def open_through(whole: Tensor, opened: Tensor) -> Tensor:
    """``whole`` (N, C, H, W) where ``opened`` (N, C), else a glimmer; gradients are of all.

    A glimmer is all but zero and has the sign of what is hidden: a ReLU behind the layer would let
    no gradient pass where its input is exactly zero.
    """
    shown: Tensor = _OpenThrough.apply(whole, opened)
    return shown


def masked_through(whole: Tensor, margin: Tensor) -> Tensor:
    """``whole`` (N, C, H, W) where ``margin`` (N, C) is above 0, else a glimmer.

    The gradient of ``whole`` is that of a mask. The gradient of ``margin`` is as if ``whole`` were
    weighed with its sigmoid, for open and closed channels alike.
    """
    shown: Tensor = _MaskedThrough.apply(whole, margin)
    return shown


class _OpenThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, whole: Tensor, opened: Tensor) -> Tensor:
        return _glimmering(whole, opened)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class _MaskedThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, whole: Tensor, margin: Tensor) -> Tensor:
        ctx.save_for_backward(whole, margin)
        return _glimmering(whole, _is_open(margin))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        whole, margin = ctx.saved_tensors
        opened = _is_open(margin).to(grad.dtype)
        share = torch.sigmoid(margin)
        slope = share * (1 - share)
        worth = (grad * whole).sum((2, 3)).to(margin.dtype)
        return grad * opened[:, :, None, None], worth * slope


def _is_open(margin: Tensor) -> Tensor:
    # Asked this way round, NaN shows in the loss instead of making channels inactive.
    return ~(margin <= 0)


def _glimmering(whole: Tensor, opened: Tensor) -> Tensor:
    glimmer = torch.copysign(whole.new_full((), GLIMMER), whole)
    return torch.where(opened[:, :, None, None], whole, glimmer)
