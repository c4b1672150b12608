"""CGNet, channel gating: a part of the input channels decides, per pixel, whether to read the rest.

Hua, Zhou, De Sa, Zhang, Suh, "Channel Gating Neural Networks", NeurIPS 2019, arXiv 1805.12549. The
layout is that of the official code (cornell-zhang/dnn-gating, utils/cg_utils.py), with its weight
mask, normalised partial sum, step with the sigmoid's slope, sparse back-propagation and loss on
the thresholds. From the paper come separate batch norms for the two paths, an option which that
code does not have.

Different on purpose: the batch norm behind the convolution is part of the layer, so that in
evaluation one operator stands for both; the network's factors and statistics stay. Blocks of
channels and pixels are ours: they decide by their mean, and a kernel can leave out whole tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headgate.errors import ModelError, UsageError
from headgate.train.gates.layer import Conv
from headgate.train.gates.norms import BatchNorm, folded, norm_behind
from headgate.train.gates.pixel_operator import (
    base_path,
    block_mean,
    block_sum,
    decide,
    pixel_gated_conv2d,
    spread,
)
from headgate.train.gates.threshold_target import TargetedLayer, ThresholdTarget

# Channels and pixels that kernels compute at once: a block is a multiple of these.
CHANNEL_TILE, PIXEL_TILE = 4, 16

PARTITIONS = 4


class CGNetConv2d(TargetedLayer):
    """A convolution gated by CGNet.

    ::

        x'    = channel_shuffle(x, p) if shuffle, else x
        Yp    = conv(x', weight * M)        M: block diagonal if grouped, else the first C_in / p
        Y     = conv(x', weight)
        n     = norm(Yp), without factor and shift
        d     = 1[sigmoid(alpha * (n - threshold)) > 0.5]                  per pixel and channel
        y     = norm(d * Y + (1 - d) * Yp)                                 one batch norm
        y     = d * norm(Y) + (1 - d) * (base_scale * n + base_shift)      separate ones

    With blocks, n - threshold is replaced by its mean over the block. The gradient passes the
    step as it is and then meets the sigmoid's slope; with ``sparse_bp`` it stops where d = 0. The
    penalty is the sum over channels of (threshold - target)^2, see :class:`ThresholdTarget`.

    Args:
        density: must be 1: how much is computed follows from the thresholds.
        partitions: p, at least 2; C_in must be a multiple of it, and so must C if grouped.
        grouped: each p-th of the outputs sees its own p-th of the inputs, else all see the first.
        shuffle: spread the input channels over the partitions in turn.
        separate_norms: a batch norm for each path instead of one for both.
        alpha: steepness of the sigmoid.
        sparse_bp: no gradient through the gate where it is off.
        start: threshold to begin with. 0 is the official code's; at -3 and below a pretrained
            network begins with nearly all pixels on, close to what it was.
        block: channels and pixels that decide together: (1, 1) as in the paper, or multiples of 4
            and 16. Pixels run over the flattened image, the last run may be shorter. Of channels it
            is the largest such multiple that divides a chunk of outputs.

    Raises:
        UsageError: an option outside its range.
        ModelError: a convolution that is grouped itself or whose channels do not divide.
    """

    procedure = ThresholdTarget
    takes_density = False

    norm: nn.BatchNorm2d
    partial: nn.BatchNorm2d

    def __init__(
        self,
        conv: nn.Conv2d,
        norm: BatchNorm,
        name: str,
        density: float = 1.0,
        partitions: int = PARTITIONS,
        grouped: bool = True,
        shuffle: bool = False,
        separate_norms: bool = False,
        alpha: float = 2.0,
        sparse_bp: bool = True,
        start: float = 0.0,
        block: Sequence[int] = (1, 1),
    ) -> None:
        obstacle = self.obstacle(
            conv, norm, {"partitions": partitions, "grouped": grouped, "block": block}
        )
        if obstacle is not None:
            raise ModelError(f"layer {name!r} cannot be gated: {obstacle}")
        super().__init__(conv, name)
        self.set_density(density)
        self.partitions, self.grouped, self.shuffle = partitions, grouped, shuffle
        self.separate_norms, self.sparse_bp, self.alpha = separate_norms, sparse_bp, alpha
        self.block = [_block_channels(block[0], _chunk(conv, partitions, grouped)), block[1]]

        # Shuffled like the inputs, so that a pretrained network stays the same function.
        weight = conv.weight.detach()
        self.weight = nn.Parameter(self._shuffled(weight).clone())
        self.norm = norm_behind(conv, norm, affine=True)
        # A guess until batches have been seen: that all input channels contribute alike.
        self.partial = norm_behind(conv, norm)
        for statistic in (self.partial.running_mean, self.partial.running_var):
            assert statistic is not None
            statistic /= partitions
        self.threshold = nn.Parameter(torch.full_like(self.norm.weight, start))
        self.register_buffer("target", torch.ones_like(self.threshold[0]))
        if separate_norms:
            self.base_scale = nn.Parameter(self.norm.weight.detach().clone())
            self.base_shift = nn.Parameter(self.norm.bias.detach().clone())

    @classmethod
    def obstacle(cls, conv: Conv, norm: nn.Module | None, options: dict[str, Any]) -> str | None:
        partitions, grouped = options.get("partitions", PARTITIONS), options.get("grouped", True)
        channels, _ = _checked_block(options.get("block", (1, 1)))
        if not isinstance(partitions, int) or partitions < 2:
            raise UsageError(f"partitions = {partitions!r}, but must be a whole number above 1")
        if isinstance(conv, nn.Conv1d):
            return "it is one-dimensional, and pixel gates are for images"
        if not isinstance(norm, BatchNorm):
            return "no batch norm is behind it, on whose statistics pixel gates decide"
        if conv.groups != 1:
            return f"it has {conv.groups} groups of its own"
        sides = {"input": conv.in_channels} | ({"output": conv.out_channels} if grouped else {})
        for side, count in sides.items():
            if count % partitions:
                return f"its {count} {side} channels do not divide into {partitions} partitions"
        chunk = _chunk(conv, partitions, grouped)
        if channels > 1 and chunk % CHANNEL_TILE:
            return f"its chunks of {chunk} output channels do not divide into blocks of 4"
        return None

    def penalty(self) -> Tensor:
        return (self.threshold - self.target).square().sum()

    @property
    def settings(self) -> tuple[Any, ...]:
        """The arguments of the layer's operator behind its tensors."""
        geometry = self.stride, self.padding, self.dilation
        return *geometry, self.partitions, self.grouped, self.shuffle, self.block

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C, H_out, W_out); see :meth:`record` for the errors."""
        if self.training:
            return self._forward_training(x)
        gate_scale, gate_bias = folded(self.partial)
        gate_bias = gate_bias - self.threshold
        full_scale, full_bias = folded(self.norm)
        base_scale, base_bias = full_scale, full_bias
        if self.separate_norms:
            base_scale, base_bias = folded(self.partial)
            base_scale = base_scale * self.base_scale
            base_bias = base_bias * self.base_scale + self.base_shift
        if not torch.compiler.is_exporting():
            # The operator keeps its gate to itself.
            with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
                exact = x.to(self.weight.dtype)
                _, score, on = decide(exact, self.weight, gate_scale, gate_bias, *self.settings)
            self.record(on, score)
        return pixel_gated_conv2d(
            x,
            self.weight,
            gate_scale,
            gate_bias,
            base_scale,
            base_bias,
            full_scale,
            full_bias,
            *self.settings,
        )

    def _forward_training(self, x: Tensor) -> Tensor:
        x = self._shuffled(x)
        geometry = self.stride, self.padding, self.dilation
        base = base_path(x, self.weight, *geometry, self.partitions, self.grouped)
        full = F.conv2d(x, self.weight, None, *geometry)
        n = self.partial(base)
        # The mean of differences is the difference of means: no pass over all pixels for it.
        wide = self.threshold[None, :, None, None].expand(1, -1, 1, self.block[1])
        score = block_mean(n, self.block) - block_mean(wide, self.block)
        on = spread(score.detach() > 0, self.block, n)
        self.record(on, score)
        settings = score, on, self.block, self.alpha, self.sparse_bp
        if not self.separate_norms:
            return self.norm(_Choice.apply(full, base, *settings))
        # n * base_scale + base_shift, in one quick pass.
        part = F.batch_norm(
            base, None, None, self.base_scale, self.base_shift, True, eps=self.partial.eps
        )
        y: Tensor = _Choice.apply(self.norm(full), part, *settings)
        return y

    def _shuffled(self, x: Tensor) -> Tensor:
        return F.channel_shuffle(x, self.partitions) if self.shuffle else x

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, partitions={self.partitions}, grouped={self.grouped}, "
            f"shuffle={self.shuffle}, separate_norms={self.separate_norms}, block={self.block}"
        )


class _Choice(torch.autograd.Function):
    """d * full + (1 - d) * base, all (N, C, H, W); d is ``on``, the score's (block means) sign."""

    @staticmethod
    def forward(
        ctx: Any,
        full: Tensor,
        base: Tensor,
        score: Tensor,
        on: Tensor,
        block: list[int],
        alpha: float,
        sparse: bool,
    ) -> Tensor:
        ctx.save_for_backward(full, base, score, on)
        ctx.settings = block, alpha, sparse
        return torch.where(on, full, base)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        full, base, score, on = ctx.saved_tensors
        block, alpha, sparse = ctx.settings
        soft = torch.sigmoid(alpha * score)
        slope = alpha * soft * (1 - soft)
        if sparse:
            slope = slope * (score > 0)
        score_grad = slope * block_sum(grad * (full - base), block)
        zero = grad.new_zeros(())
        full_grad, base_grad = torch.where(on, grad, zero), torch.where(on, zero, grad)
        return full_grad, base_grad, score_grad, None, None, None, None


def _chunk(conv: nn.Conv2d, partitions: int, grouped: bool) -> int:
    """Output channels that see the same inputs in the base path."""
    return conv.out_channels // partitions if grouped else conv.out_channels


def _checked_block(block: Sequence[int]) -> tuple[int, int]:
    """The block's channels and pixels; a UsageError if neither (1, 1) nor multiples of 4 and 16."""
    sizes = tuple(block) if isinstance(block, Sequence) else ()
    if sizes == (1, 1):
        return 1, 1
    good = len(sizes) == 2 and all(type(size) is int and size > 0 for size in sizes)
    if not good or sizes[0] % CHANNEL_TILE or sizes[1] % PIXEL_TILE:
        raise UsageError(
            f"block = {block!r}, but must be (1, 1), or a multiple of {CHANNEL_TILE} channels and "
            f"one of {PIXEL_TILE} pixels"
        )
    return sizes[0], sizes[1]


def _block_channels(wanted: int, chunk: int) -> int:
    """The largest multiple of 4 up to ``wanted`` that divides ``chunk``, or 1 for 1."""
    if wanted == 1:
        return 1
    steps = range(min(wanted, chunk), 0, -1)
    return next(n for n in steps if n % CHANNEL_TILE == 0 and chunk % n == 0)
