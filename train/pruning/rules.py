"""How relevance passes backwards through each operator of an exported graph.

Layer-wise relevance propagation (Bach et al., PLoS ONE 2015): a rule gets an operator's inputs,
its result and the relevance R of the result, and shares R out among the inputs. Sums run over
all elements.

* Convolution and linear layer: the alpha-beta rule,
  ``x * (ALPHA W+^T (R / W+ x) - BETA W-^T (R / W- x))``, the bias taking nothing: all of R is
  shared out where there are contributions of both signs, as ALPHA - BETA = 1.
* Operators that scale with their inputs (pooling, means, sums, concatenation, padding, slices):
  in proportion to what each element contributed to the result, which for a maximum is the winner
  alone. All of R is passed on where the result is not 0.
* ReLU, dropout and batch norm pass R as it is. A batch norm whose factor is 0 for a channel stops
  it there, as the channel is a constant.

Quotients have EPSILON added to the denominator, away from zero: that much relevance is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

# As in the official code of FRS.
ALPHA, BETA, EPSILON = 2.0, 1.0, 1e-9


@dataclass(frozen=True)
class Call:
    """An operator as it was executed, and the relevance of its result (of the same shape)."""

    function: Callable[..., Tensor]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Tensor
    relevance: Tensor


# The relevance of an operator's arguments, nested as they are; None for what gets none.
Rule = Callable[[Call], tuple[Any, ...]]


def share_by_sign(call: Call) -> tuple[Any, ...]:
    """Convolution and linear layer: args are input, weight, and perhaps a bias and geometry."""
    x, weight = call.args[:2]
    rest = call.args[3:]
    bias = (None,) if len(call.args) > 2 else ()
    kwargs = {key: value for key, value in call.kwargs.items() if key != "bias"}
    shared = torch.zeros_like(x)
    for factor, part in ((ALPHA, weight.clamp(min=0)), (-BETA, weight.clamp(max=0))):
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            z = call.function(leaf, part.detach(), *bias, *rest, **kwargs)
            (gradient,) = torch.autograd.grad(z, leaf, call.relevance / _off_zero(z.detach()))
        shared += factor * gradient
    return (x * shared,)


def share_by_contribution(call: Call) -> tuple[Any, ...]:
    """An operator f with f(c x) = c f(x): each element gets x df/dx of the quotient R / f."""
    leaves: list[Tensor] = []

    def leaf(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        leaves.append(value.detach().requires_grad_())
        return leaves[-1]

    with torch.enable_grad():
        args = fx.node.map_aggregate(call.args, leaf)
        output = call.function(*args, **call.kwargs)
        quotient = call.relevance / _off_zero(output.detach())
        gradients = iter(torch.autograd.grad(output, leaves, quotient, allow_unused=True))

    def share(value: Any) -> Tensor | None:
        if not isinstance(value, Tensor) or not value.requires_grad:
            return None
        gradient = next(gradients)
        return None if gradient is None else value.detach() * gradient

    return fx.node.map_aggregate(args, share)


def share_all(call: Call) -> tuple[Any, ...]:
    """Element by element; of another shape it is the same relevance in that shape."""
    return (call.relevance.reshape(call.args[0].shape),)


def share_unless_constant(call: Call) -> tuple[Any, ...]:
    """Batch norm: args are input, factor (C,) or None, and others."""
    factor = call.args[1]
    if factor is None:
        return (call.relevance,)
    depends = (factor != 0).reshape(-1, *[1] * (call.relevance.ndim - 2))
    return (call.relevance * depends,)


def _off_zero(z: Tensor) -> Tensor:
    return torch.where(z < 0, z - EPSILON, z + EPSILON)


CONTRIBUTION = (
    "max_pool2d avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d mean sum add add_ sub sub_ cat "
    "pad constant_pad_nd slice select upsample_nearest2d"
)
ALL = (
    "relu relu_ relu6 hardtanh hardtanh_ leaky_relu dropout dropout_ feature_dropout flatten view "
    "reshape squeeze unsqueeze clone contiguous alias detach detach_ to _to_copy"
)

RULES: dict[str, Rule] = {
    "aten.conv2d": share_by_sign,
    "aten.linear": share_by_sign,
    "aten.batch_norm": share_unless_constant,
    "headgate.place_channels": share_by_contribution,
    **{f"aten.{name}": share_by_contribution for name in CONTRIBUTION.split()},
    **{f"aten.{name}": share_all for name in ALL.split()},
}
