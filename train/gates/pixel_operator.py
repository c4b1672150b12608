"""The operator that stands for a pixel gate in an exported graph, and the mean it decides on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from headgate.train.gates.define import convolution


@convolution(
    "pixel_gated_conv2d(Tensor x, Tensor weight, Tensor gate_scale, Tensor gate_bias, "
    "Tensor base_scale, Tensor base_bias, Tensor full_scale, Tensor full_bias, int[] stride, "
    "int[] padding, int[] dilation, int partitions, bool grouped, bool shuffle, int[] block) "
    "-> Tensor"
)
def pixel_gated_conv2d(
    x: Tensor,
    weight: Tensor,
    gate_scale: Tensor,
    gate_bias: Tensor,
    base_scale: Tensor,
    base_bias: Tensor,
    full_scale: Tensor,
    full_bias: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    partitions: int,
    grouped: bool,
    shuffle: bool,
    block: list[int],
) -> Tensor:
    """A convolution that reads all its inputs only where a part of them asks for it.

    With p = ``partitions``, x' = channel_shuffle(x, p) if ``shuffle`` else x, the base path Yp
    (see :func:`base_path`) and the full sum Y = conv2d(x', weight)::

        score = gate_scale[c] * Yp + gate_bias[c]
        d     = the mean of the score over its block > 0          see block_mean
        y     = full_scale[c] * Y  + full_bias[c]   where d
                base_scale[c] * Yp + base_bias[c]   elsewhere

    There is no ReLU inside. x is (N, C_in, H, W), weight (C, C_in, kernel height, kernel width),
    the scales and biases (C,), the result (N, C, H_out, W_out). C_in is a multiple of p, and so is
    C if ``grouped``.
    """
    settings = stride, padding, dilation, partitions, grouped, shuffle, block
    base, _, on = decide(x, weight, gate_scale, gate_bias, *settings)
    full = F.conv2d(
        F.channel_shuffle(x, partitions) if shuffle else x, weight, None, stride, padding, dilation
    )
    y = torch.where(
        on,
        full * full_scale[:, None, None] + full_bias[:, None, None],
        base * base_scale[:, None, None] + base_bias[:, None, None],
    )
    return y.contiguous()  # whatever the layout of the input, as the fake kernel says


def decide(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    partitions: int,
    grouped: bool,
    shuffle: bool,
    block: list[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """The base path (N, C, H_out, W_out), its score as block means, and where the gate is on."""
    if shuffle:
        x = F.channel_shuffle(x, partitions)
    base = base_path(x, weight, stride, padding, dilation, partitions, grouped)
    score = block_mean(base * scale[:, None, None] + bias[:, None, None], block)
    return base, score, spread(score > 0, block, base)


def base_path(
    x: Tensor,
    weight: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    partitions: int,
    grouped: bool,
) -> Tensor:
    """The convolution over 1/p of the input channels: (N, C, H_out, W_out).

    Grouped, the i-th of p chunks of the outputs sees the i-th chunk of the inputs (the block
    diagonal of the weight); otherwise every output sees the first chunk of the inputs.
    """
    inputs = x.shape[1] // partitions
    if not grouped:
        return F.conv2d(x[:, :inputs], weight[:, :inputs], None, stride, padding, dilation)
    rows = weight.chunk(partitions)
    diagonal = [row[:, i * inputs : (i + 1) * inputs] for i, row in enumerate(rows)]
    return F.conv2d(x, torch.cat(diagonal), None, stride, padding, dilation, partitions)


def block_mean(score: Tensor, block: list[int]) -> Tensor:
    """Means over runs of ``block[0]`` channels by ``block[1]`` pixels in row-major order.

    (N, C, H, W) -> (N, C / block[0], ceil(H * W / block[1])); the last run of pixels may be
    shorter, its mean is over what there is. A block of [1, 1] leaves the values as they are.
    """
    channels, pixels = block
    sums = block_sum(score, block)
    count = score.shape[2] * score.shape[3]
    lengths = torch.full_like(sums[0, 0], pixels, requires_grad=False)
    lengths[-1] = count - (len(lengths) - 1) * pixels
    return sums / (channels * lengths)


def block_sum(values: Tensor, block: list[int]) -> Tensor:
    """Sums over the blocks of :func:`block_mean`, single precision where values are half."""
    channels, pixels = block
    wide = torch.promote_types(values.dtype, torch.float32)
    # Pixels before channels: blocks are then runs of memory in the layout that is fast. One
    # dimension at a time, and half precision to the end of the first: an order quicker.
    flat = values.permute(0, 2, 3, 1).flatten(1, 2)
    if pixels > 1:
        whole = flat.shape[1] // pixels * pixels
        runs = [flat[:, :whole].unflatten(1, (whole // pixels, pixels)).sum(2)] if whole else []
        rest = flat[:, whole:]
        flat = torch.cat([*runs, rest.sum(1, keepdim=True)], 1) if rest.shape[1] else runs[0]
    return flat.to(wide).unflatten(2, (-1, channels)).sum(3).transpose(1, 2)


def spread(decision: Tensor, block: list[int], like: Tensor) -> Tensor:
    """Gives every element of ``like`` (N, C, H, W) the value of its block in :func:`block_mean`."""
    channels, pixels = block
    n, _, height, width = like.shape
    wide = decision.transpose(1, 2).repeat_interleave(channels, 2)
    wide = wide[:, :, None].expand(-1, -1, pixels, -1).reshape(n, -1, like.shape[1])
    return wide[:, : height * width].unflatten(1, (height, width)).permute(0, 3, 1, 2)
