"""One handler for each kind of node: TensorFlow, the node and its operands in, a tensor out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headgate.compile.front.graph import Node

SUPPORTED = (
    "two-dimensional convolution, batch norm, linear, ReLU, ReLU6, max pooling, average pooling "
    "that counts its border, adaptive average pooling of images that are multiples of the result, "
    "mean over height and width, add, concat, flatten, dropout"
)


class Untranslatable(Exception):
    """An option of a known operator without translation; the text says which, the caller where."""


@dataclass(frozen=True)
class Held:
    """A TensorFlow tensor with what is known of the value it stands for.

    An image (N,C,H,W) is held as (N,H,W,C). Flattening one keeps the numbers in that order; the
    linear layer that follows reorders its weights instead of transposing the data.
    """

    tensor: Any
    nonnegative: bool = False
    """Known to hold no value below zero, so that zeros pad a maximum as well as -inf does."""
    image: tuple[int, int, int] | None = None
    """(C,H,W) of a (N,C*H*W) tensor whose elements are in (H,W,C) order."""

    def holding(self, tensor: Any, **known: Any) -> Held:
        """The same knowledge about another tensor."""
        return replace(self, tensor=tensor, **known)


def constant(tf: Any, data: NDArray[Any]) -> Held:
    """A tensor that does not depend on the input."""
    image = data.transpose(0, 2, 3, 1) if data.ndim == 4 else data
    return Held(tf.constant(image), bool((data >= 0).all()))


def in_order(tf: Any, x: Held, shape: tuple[int, ...]) -> Any:
    """The tensor of ``shape`` in PyTorch's order."""
    if x.image is None:
        return tf.transpose(x.tensor, (0, 3, 1, 2)) if len(shape) == 4 else x.tensor
    channels, height, width = x.image
    image = tf.reshape(x.tensor, (-1, height, width, channels))
    return tf.reshape(tf.transpose(image, (0, 3, 1, 2)), shape)


def convolve(tf: Any, node: Node, x: Held) -> Held:
    """Depthwise convolutions become TFLite's own operator."""
    weight, stride, dilation = node["weight"], node["stride"], node["dilation"]
    kernel = weight.shape[2:]
    extent = [(size - 1) * step + 1 for size, step in zip(kernel, dilation, strict=True)]
    image, mode = _padded(tf, node, x, extent, 0.0)
    if node["groups"] == node.inputs[0].channels > 1:
        if stride[0] != stride[1]:
            raise Untranslatable(f"a depthwise convolution with strides {list(stride)}")
        if max(stride) > 1 and max(dilation) > 1:
            raise Untranslatable("a depthwise convolution with both stride and dilation")
        # (C*M,1,kh,kw) -> (kh,kw,C,M)
        filters = weight.reshape(node["groups"], -1, *kernel).transpose(2, 3, 0, 1)
        y = tf.nn.depthwise_conv2d(image, filters, (1, *stride, 1), mode, dilations=dilation)
    else:
        y = tf.nn.conv2d(image, weight.transpose(2, 3, 1, 0), stride, mode, dilations=dilation)
    return Held(tf.nn.bias_add(y, node["bias"]))


def scale(tf: Any, node: Node, x: Held) -> Held:
    """Batch norms that no convolution precedes; the others are folded before."""
    if len(node.output.shape) not in (2, 4):
        raise Untranslatable(f"a batch norm of {len(node.output.shape)} dimensions")
    factor, shift = (_last(node[name], x) for name in ("scale", "shift"))
    return x.holding(x.tensor * factor + shift, nonnegative=False)


def clip(tf: Any, node: Node, x: Held) -> Held:
    """ReLU and ReLU6, which are TFLite operators of their own."""
    bounds = (node["low"], node["high"])
    if bounds not in ((0, None), (0, 6)):
        raise Untranslatable(f"clipping to {bounds[0]}..{bounds[1]}; only 0..inf and 0..6")
    y = tf.nn.relu(x.tensor) if bounds[1] is None else tf.nn.relu6(x.tensor)
    return x.holding(y, nonnegative=True)


def pool_maximum(tf: Any, node: Node, x: Held) -> Held:
    if set(node["dilation"]) != {1}:
        raise Untranslatable("max pooling with dilation")
    fill = 0.0 if x.nonnegative else float(np.finfo("f4").min)
    image, mode = _padded(tf, node, x, node["kernel"], fill)
    return x.holding(tf.nn.max_pool2d(image, node["kernel"], node["stride"], mode))


def pool_average(tf: Any, node: Node, x: Held) -> Held:
    """TensorFlow's own padding does not count, so what counts is an operator in front."""
    image = tf.pad(x.tensor, _margins(node)) if any(node["padding"]) else x.tensor
    return x.holding(tf.nn.avg_pool2d(image, node["kernel"], node["stride"], "VALID"))


def average(tf: Any, node: Node, x: Held) -> Held:
    """Mean over height and width."""
    return x.holding(tf.reduce_mean(x.tensor, (1, 2), keepdims=len(node.output.shape) == 4))


def project(tf: Any, node: Node, x: Held) -> Held:
    """Fully connected layer (N,F) -> (N,G)."""
    if len(node.output.shape) != 2:
        raise Untranslatable(f"a linear layer on a tensor of {len(node.output.shape)} dimensions")
    y = tf.linalg.matmul(x.tensor, np.ascontiguousarray(_last(node["weight"], x).T))
    return Held(tf.nn.bias_add(y, node["bias"]))


def add(tf: Any, node: Node, x: Held, other: Held) -> Held:
    if x.image != other.image:
        raise Untranslatable(f"a sum of shapes {x.image} and {other.image}, flattened")
    nonnegative = x.nonnegative and other.nonnegative
    return x.holding(x.tensor + other.tensor, nonnegative=nonnegative)


def concatenate(tf: Any, node: Node, *parts: Held) -> Held:
    """Concatenation of images, or of rows that were never flattened images."""
    if any(part.image is not None for part in parts):
        raise Untranslatable("a concatenation of flattened images")
    axis = node["axis"]
    here = {0: 0, 1: 3, 2: 1, 3: 2}[axis] if len(node.output.shape) == 4 else axis
    y = tf.concat([part.tensor for part in parts], here)
    return Held(y, all(part.nonnegative for part in parts))


# XNNPACK's kernels compute so many output channels at once (x86 with AVX-512, and near it NEON's).
TILE = 16
# MACs per element of the sum that one more pass over it is worth: an estimate, not fitted.
PASS = 32


def fill(convolution: Node, place: Node) -> bool:
    """Makes filters of zeros where they beat a 1x1 convolution behind; else changes nothing.

    ``place`` puts the K channels that ``convolution`` computes among the C of a sum. Filters of
    zeros win where few channels are missing or the input is narrow. XNNPACK has no gather, and
    padding and gathering outside of its partition take 2 % to 70 % longer (LiteRT on x86).
    """
    if convolution.kind != "conv2d" or convolution["groups"] != 1:
        return False
    weight, constant, channels = convolution["weight"], place["constant"], list(place["channels"])
    kept, *reads = weight.shape
    work = math.prod(reads)
    filled = _tiles(constant.size) * work
    placed = _tiles(kept) * work + _tiles(constant.size) * kept + constant.size * PASS
    if filled > placed:
        return False
    filters = np.zeros((constant.size, *reads), np.float32)
    bias = constant.copy()
    filters[channels], bias[channels] = weight, convolution["bias"]
    convolution.attributes |= {"weight": filters, "bias": bias}
    return True


def _tiles(channels: int) -> int:
    return math.ceil(channels / TILE) * TILE


def reshape(tf: Any, node: Node, x: Held) -> Held:
    """Flattening everything but the batch; other reshapes would need PyTorch's layout."""
    before, after = node.inputs[0].shape, node.output.shape
    if before == after:
        return x
    if after != (before[0], math.prod(before[1:])) or len(before) != 4:
        raise Untranslatable(f"reshaping {before} to {after}; only (N, features)")
    channels, height, width = before[1:]
    moved = height * width > 1 and channels > 1
    y = tf.reshape(x.tensor, after)
    return x.holding(y, image=(channels, height, width) if moved else None)


HANDLERS: dict[str, Callable[..., Held]] = {
    "add": add,
    "affine": scale,
    "avg_pool2d": pool_average,
    "channel_mean": average,
    "clamp": clip,
    "concat": concatenate,
    "conv2d": convolve,
    "linear": project,
    "max_pool2d": pool_maximum,
    "reshape": reshape,
}
"""``front.graph.KINDS`` says what each kind of node is."""


def _last(rows: NDArray[np.float32], x: Held) -> NDArray[np.float32]:
    """Numbers (..., features), in the order in which ``x`` holds its features."""
    if x.image is None:
        return rows
    images = rows.reshape(-1, *x.image)
    return images.transpose(0, 2, 3, 1).reshape(rows.shape)


def _padded(tf: Any, node: Node, x: Held, extent: Sequence[int], fill: float) -> tuple[Any, str]:
    """The image to slide a window over, and TensorFlow's padding mode.

    ``SAME`` is used only where it puts the padding where PyTorch does; elsewhere the margin
    becomes an operator.
    """
    if not any(node["padding"]):
        return x.tensor, "VALID"
    margins = _margins(node)
    sides = zip(node.inputs[0].shape[2:], extent, node["stride"], strict=True)
    for margin, (have, window, step) in zip(margins[1:], sides, strict=False):
        total = max((math.ceil(have / step) - 1) * step + window - have, 0)
        if margin != [total // 2, total - total // 2]:
            return tf.pad(x.tensor, margins, constant_values=fill), "VALID"
    return x.tensor, "SAME"


def _margins(node: Node) -> list[list[int]]:
    top, left, bottom, right = node["padding"]
    return [[0, 0], [top, bottom], [left, right], [0, 0]]
