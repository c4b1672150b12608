"""Defining the operators that stand for a gate in an exported graph, one node each.

In PyTorch they compute the dense convolution and throw away what a gate leaves inactive.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def convolution(schema: str) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Makes a function the operator ``headgate::NAME`` of a ``NAME(Tensor x, ...) -> Tensor``.

    Tensors come first in the schema, then ``stride``, ``padding`` and ``dilation``; further
    settings follow, of which ``groups`` is the convolution's own.
    """
    return partial(_define, schema)


def _define(schema: str, compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
    name, _, arguments = schema.partition("(")
    tensors = arguments.count("Tensor ")
    grouped = "int groups" in arguments
    operator = torch.library.custom_op(
        f"headgate::{name}", mutates_args=(), schema=f"({arguments}"
    )(compute)

    def fake(x: Tensor, weight: Tensor, *rest: Any) -> Tensor:
        geometry = rest[tensors - 2 : tensors + 1 + grouped]
        y = F.conv2d(x, weight, None, *geometry)
        return torch.empty_like(y, memory_format=torch.contiguous_format)

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:tensors])
        ctx.settings = inputs[tensors:]

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # Evaluation rarely needs a gradient: computing the forward again is short and right.
        wanted = ctx.needs_input_grad[:tensors]
        with torch.enable_grad():
            inputs = [
                tensor.detach().requires_grad_(want)
                for tensor, want in zip(ctx.saved_tensors, wanted, strict=True)
            ]
            y = compute(*inputs, *ctx.settings)
            asked = [tensor for tensor, want in zip(inputs, wanted, strict=True) if want]
            found = iter(torch.autograd.grad(y, asked, grad, allow_unused=True))
        return (*(next(found) if want else None for want in wanted), *(None for _ in ctx.settings))

    operator.register_fake(fake)
    operator.register_autograd(backward, setup_context=setup)
    # Under autocast the inputs arrive in mixed precision; the folded batch norm wants it all.
    for device in ("cpu", "cuda"):
        operator.register_autocast(device, torch.float32)
    return operator
