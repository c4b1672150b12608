"""The cost of each operator of an exported graph, and its effect on the mask of channels.

A mask is a boolean tensor (N, C): the channels (or features) that can be non-zero. None stands
for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Mask = Tensor | None
# An operator with several results has a list of masks.
Masks = Mask | list[Mask]


@dataclass(frozen=True)
class Call:
    """An operator that was executed: batch size, arguments, their masks (same nesting), result."""

    size: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    masks: tuple[Any, ...]
    output: Any

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument of the operator, given by position, by name or not at all."""
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default)

    def dimension(self, position: int, name: str, default: int = 0) -> int:
        """An argument that names a dimension of the first tensor, counted from the front."""
        first = self.args[0][0] if isinstance(self.args[0], list | tuple) else self.args[0]
        return int(self.argument(position, name, default)) % first.ndim


@dataclass(frozen=True)
class Cost:
    """MACs per image, dense and executed (N,), and the mask of the result."""

    dense: int
    executed: Tensor
    mask: Masks


Handler = Callable[[Call], Cost]

NOTHING = torch.zeros(0, dtype=torch.int64)


def free(rule: Callable[[Call], Masks]) -> Handler:
    """Handler of an operator without MACs; ``rule`` gives the mask of its result."""
    return lambda call: Cost(0, NOTHING, rule(call))


def _active(call: Call, mask: Mask, channels: int, groups: int = 1) -> Tensor:
    """(N, groups), int64: how many of the channels are active."""
    if mask is None:
        return call.output.new_full((call.size, groups), channels // groups, dtype=torch.int64)
    return mask.reshape(call.size, groups, channels // groups).sum(2)


def _convolution_cost(call: Call, groups: int, mask: Mask) -> Cost:
    """Of a weight (C, C_in / groups, kernel...), applied at every output position."""
    weight = call.args[1]
    per_pair = math.prod(weight.shape[2:]) * math.prod(call.output.shape[2:])
    inputs = _active(call, call.masks[0], weight.shape[1] * groups, groups)
    outputs = _active(call, mask, weight.shape[0], groups)
    executed = (inputs * outputs).sum(1) * per_pair
    return Cost(math.prod(weight.shape[:2]) * per_pair, executed, mask)


def convolution(call: Call) -> Cost:
    return _convolution_cost(call, call.argument(6, "groups", 1), None)


def gated_convolution(call: Call) -> Cost:
    """One weight a channel is the gate behind a norm of each image, which only scales."""
    weight, groups, mask = call.args[1], call.args[9], call.args[4] != 0
    if groups == weight.shape[0] > 1 and weight[0].numel() == 1:
        return Cost(0, NOTHING, mask)
    return _convolution_cost(call, groups, mask)


def following_convolution(call: Call) -> Cost:
    return _convolution_cost(call, call.args[8], call.args[4] != 0)


def transposed_convolution(call: Call) -> Cost:
    """Weight (C_in, C / groups, kernel...), applied at every input position."""
    x, weight = call.args[:2]
    per_input = math.prod(weight.shape[1:]) * math.prod(x.shape[2:])
    active = _active(call, call.masks[0], x.shape[1])[:, 0]
    return Cost(x.shape[1] * per_input, active * per_input, None)


def linear(call: Call) -> Cost:
    """Inputs x outputs for every row; a mask counts when the input is (N, features)."""
    x, weight = call.args[:2]
    rows = math.prod(x.shape[:-1]) // call.size
    active = _active(call, call.masks[0] if x.ndim == 2 else None, x.shape[-1])[:, 0]
    return Cost(rows * weight.numel(), active * (rows * weight.shape[0]), None)


def _product(call: Call, left: Tensor) -> Cost:
    macs = call.output.numel() * left.shape[-1] // call.size
    return Cost(macs, left.new_full((call.size,), macs, dtype=torch.int64), None)


def keep(call: Call) -> Masks:
    """Zero stays zero, channels stay where they are."""
    mask: Masks = call.masks[0]
    return mask


def lose(call: Call) -> Masks:
    """Zero may become something else: every channel is active."""
    return None


def either(call: Call) -> Masks:
    """A sum of tensors is active where any is; adding a number makes all channels active."""
    a, b = call.masks[0], call.masks[1]
    return None if a is None or b is None else a | b


def both(call: Call) -> Masks:
    """A product is active where both factors are."""
    a, b = call.masks[0], call.masks[1]
    mask: Mask = (a if b is None else b) if a is None or b is None else a & b
    return None if mask is None else mask.expand(-1, call.output.shape[1])


def concatenated(call: Call) -> Masks:
    tensors, masks = call.args[0], call.masks[0]
    if call.dimension(1, "dim") != 1 or all(mask is None for mask in masks):
        return None
    return torch.cat([_written_out(m, t) for m, t in zip(masks, tensors, strict=True)], 1)


def _written_out(mask: Mask, tensor: Tensor) -> Tensor:
    return tensor.new_ones(tensor.shape[:2], dtype=torch.bool) if mask is None else mask


def split_up(call: Call) -> Masks:
    """chunk, split: along other dimensions than the channels the mask is that of each part."""
    mask: Mask = call.masks[0]
    if mask is None or call.dimension(2, "dim") != 1:
        return [mask] * len(call.output)
    return list(mask.split([part.shape[1] for part in call.output], 1))


def picked(call: Call) -> Masks:
    masks = call.masks[0]
    return masks[call.args[1]] if isinstance(masks, list) else None


def reshaped(call: Call) -> Masks:
    """Flattening channels and pixels repeats a channel's mask for every pixel."""
    mask: Mask = call.masks[0]
    before, after = call.args[0].shape, call.output.shape
    if mask is None or len(after) < 2 or before[0] != after[0]:
        return None
    if before[1] == after[1]:
        return mask
    pixels = math.prod(before[2:])
    return mask.repeat_interleave(pixels, 1) if after[1] == before[1] * pixels else None


def reduced(call: Call) -> Masks:
    """A mean or sum over pixels keeps the mask, over channels or images it is lost."""
    dims = call.argument(1, "dim")
    if dims is None:
        return None
    dims = [dims] if isinstance(dims, int) else dims
    over = {d % call.args[0].ndim for d in dims}
    return None if over & {0, 1} else keep(call)


def sliced(call: Call) -> Masks:
    mask: Mask = call.masks[0]
    dim = call.dimension(1, "dim")
    if mask is None or dim > 1 or call.output.shape == call.args[0].shape:
        return mask
    if dim == 0:
        return None
    start, end = call.argument(2, "start"), call.argument(3, "end")
    return mask[:, start : end : call.argument(4, "step", 1)]


def padded(call: Call) -> Masks:
    """Padding pixels with zeros keeps the mask; added channels count as active."""
    mask: Mask = call.masks[0]
    amounts = list(call.args[1])
    if mask is None or call.argument(2, "value", 0) or call.argument(3, "value", 0):
        return None
    outer = amounts[2 * (call.args[0].ndim - 2) :]
    if not any(outer):
        return mask
    before, after = outer[:2]
    if len(outer) > 2 or before < 0 or after < 0:
        return None
    ones = mask.new_ones
    return torch.cat([ones(call.size, before), mask, ones(call.size, after)], 1)


def clamped(call: Call) -> Masks:
    """Zero stays zero where the bounds lie on both sides of it."""
    low, high = call.argument(1, "min"), call.argument(2, "max")
    stays = (low is None or low <= 0) and (high is None or high >= 0)
    return keep(call) if stays else None


def permuted(call: Call) -> Masks:
    return keep(call) if [d % call.args[0].ndim for d in call.args[1][:2]] == [0, 1] else None


_KEEP = (
    "relu relu_ relu6 leaky_relu leaky_relu_ prelu elu silu silu_ gelu mish tanh hardswish "
    "hardswish_ neg abs sqrt square dropout dropout_ feature_dropout clone contiguous detach "
    "detach_ to _to_copy alias max_pool2d avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d "
    "max_pool1d avg_pool1d adaptive_avg_pool1d upsample_nearest2d upsample_bilinear2d "
    "_assert_tensor_metadata div div_"
)
_LOSE = (
    "batch_norm layer_norm group_norm instance_norm rsqrt exp sigmoid hardsigmoid softmax "
    "log_softmax transpose expand select where pow rsub maximum minimum argmax topk "
    "arange full zeros ones zeros_like ones_like eq ne lt le gt ge"
)

_ATEN: dict[str, Handler] = {
    "conv1d conv2d conv3d": convolution,
    "conv_transpose1d conv_transpose2d conv_transpose3d": transposed_convolution,
    "linear": linear,
    "matmul mm bmm": lambda call: _product(call, call.args[0]),
    "addmm": lambda call: _product(call, call.args[1]),
    "add add_ sub sub_": free(either),
    "mul mul_": free(both),
    "cat": free(concatenated),
    "chunk split split_with_sizes": free(split_up),
    "flatten reshape view squeeze unsqueeze": free(reshaped),
    "mean sum amax": free(reduced),
    "clamp clamp_ hardtanh hardtanh_": free(clamped),
    "slice": free(sliced),
    "pad constant_pad_nd": free(padded),
    "permute": free(permuted),
    _KEEP: free(keep),
    _LOSE: free(lose),
}

HANDLERS: dict[str, Handler] = {
    "headgate.gated_conv2d": gated_convolution,
    "headgate.following_conv2d": following_convolution,
    "headgate.keep_top_k": free(lambda call: call.output != 0),
    "headgate.place_channels": free(lose),
    "getitem": free(picked),
    **{f"aten.{name}": handler for names, handler in _ATEN.items() for name in names.split()},
}
