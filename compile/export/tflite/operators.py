"""One handler per PyTorch operator: export node and operands in, TensorFlow tensor out.

Constants reach a handler as NumPy arrays, activations as :class:`Value`. A handler that meets an
option it has no translation for raises :class:`Untranslatable`; the engine adds the module path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headgate.compile.export.tflite.value import Value, flatten_image

Handler = Callable[..., Value]
HANDLERS: dict[str, Handler] = {}


class Untranslatable(Exception):
    """An option of a known operator that TFLite has no equal for; the text says which."""


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Register a handler for operators by their overload-free names, such as ``aten.relu``."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return register


@handles("aten.conv2d", "aten.convolution")
def convolve(
    tf: Any,
    x: Value,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32] | None = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] | str = (0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> Value:
    """Convolution; depthwise ones become TFLite's own operator."""
    stride, dilation = _pair(stride), _pair(dilation)
    out_channels, in_group, *kernel = weight.shape
    extent = [(size - 1) * step + 1 for size, step in zip(kernel, dilation, strict=True)]
    if isinstance(padding, str):
        padding = (0, 0) if padding == "valid" else [(size - 1) // 2 for size in extent]
        if any(size % 2 == 0 for size in extent) and any(padding):
            raise Untranslatable("padding='same' with an even kernel")
    image, mode, size = _pad(tf, x, extent, stride, _pair(padding), 0.0)
    channels = x.shape[1]
    if groups == channels and in_group == 1 and groups > 1:
        # (C*M,1,kh,kw) -> (kh,kw,C,M)
        filters = weight.reshape(channels, -1, *kernel).transpose(2, 3, 0, 1)
        y = _depthwise(tf, image, filters, stride, mode, dilation)
    else:
        filters = weight.transpose(2, 3, 1, 0)
        y = tf.nn.conv2d(image, filters, stride, mode, dilations=dilation)
    if bias is not None:
        y = tf.nn.bias_add(y, bias)
    return Value(y, (x.shape[0], out_channels, *size))


@handles("aten._native_batch_norm_legit_no_training")
def normalize(
    tf: Any,
    x: Value,
    weight: NDArray[np.float32] | None,
    bias: NDArray[np.float32] | None,
    mean: NDArray[np.float32],
    variance: NDArray[np.float32],
    momentum: float,
    eps: float,
) -> Value:
    """Batch normalisation that no convolution precedes; the others are folded before."""
    scale = (1 if weight is None else weight) / np.sqrt(variance + eps)
    shift = (0 if bias is None else bias) - mean * scale
    return x.with_tensor(x.tensor * scale.astype("f4") + shift.astype("f4"), nonnegative=False)


@handles("aten.batch_norm")
def normalize_in_evaluation(
    tf: Any,
    x: Value,
    weight: NDArray[np.float32] | None,
    bias: NDArray[np.float32] | None,
    mean: NDArray[np.float32],
    variance: NDArray[np.float32],
    training: bool,
    momentum: float,
    eps: float,
    cudnn: bool = False,
) -> Value:
    """The same, as it is exported without decomposition."""
    if training:
        raise Untranslatable("batch norm in training mode; call eval() first")
    return normalize(tf, x, weight, bias, mean, variance, momentum, eps)


@handles("aten.relu", "aten.relu_")
def rectify(tf: Any, x: Value) -> Value:
    """max(x, 0)."""
    return x.with_tensor(tf.nn.relu(x.tensor), nonnegative=True)


@handles("aten.relu6", "aten.hardtanh", "aten.hardtanh_")
def clip(tf: Any, x: Value, low: float = 0.0, high: float = 6.0) -> Value:
    """ReLU6, the only clipping with a TFLite operator of its own."""
    if (low, high) != (0, 6):
        raise Untranslatable(f"clipping to {low}..{high}; only 0..6")
    return x.with_tensor(tf.nn.relu6(x.tensor), nonnegative=True)


@handles("aten.max_pool2d")
def pool_maximum(
    tf: Any,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil_mode: bool = False,
) -> Value:
    """Maximum over windows."""
    if set(_pair(dilation)) != {1} or ceil_mode:
        raise Untranslatable("max pooling with dilation or ceil_mode")
    kernel = _pair(kernel)
    stride = _pair(stride or kernel)
    fill = 0.0 if x.nonnegative else float(np.finfo("f4").min)
    image, mode, size = _pad(tf, x, kernel, stride, _pair(padding), fill)
    y = tf.nn.max_pool2d(image, kernel, stride, mode)
    return x.with_tensor(y, (*x.shape[:2], *size))


@handles("aten.avg_pool2d")
def pool_average(
    tf: Any,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    """Mean over windows."""
    padding = _pair(padding)
    if ceil_mode or divisor_override is not None or (any(padding) and not count_include_pad):
        raise Untranslatable("average pooling with ceil_mode, a divisor or uncounted padding")
    kernel = _pair(kernel)
    stride = _pair(stride or kernel)
    size = _output_size(x.shape[2:], kernel, stride, padding)
    image = tf.pad(x.tensor, _margins(padding)) if any(padding) else x.tensor
    return x.with_tensor(tf.nn.avg_pool2d(image, kernel, stride, "VALID"), (*x.shape[:2], *size))


@handles("aten.adaptive_avg_pool2d", "aten._adaptive_avg_pool2d")
def pool_adaptive(tf: Any, x: Value, size: Sequence[int]) -> Value:
    """Mean over equal windows that give ``size``; unequal windows have no TFLite operator."""
    wanted = tuple(_pair(size))
    held = x.shape[2:]
    if wanted == held:
        return x
    if wanted == (1, 1):
        y = tf.reduce_mean(x.tensor, (1, 2), keepdims=True)
    elif all(have % want == 0 for have, want in zip(held, wanted, strict=True)):
        window = [have // want for have, want in zip(held, wanted, strict=True)]
        y = tf.nn.avg_pool2d(x.tensor, window, window, "VALID")
    else:
        raise Untranslatable(f"adaptive pooling of {held} to {wanted}, which are not multiples")
    return x.with_tensor(y, (*x.shape[:2], *wanted))


@handles("aten.mean")
def average(tf: Any, x: Value, dims: Sequence[int], keepdim: bool = False) -> Value:
    """Mean over height and width."""
    axes = {axis % len(x.shape) for axis in dims}
    if not x.is_image or axes != {2, 3}:
        raise Untranslatable(f"mean over dimensions {list(dims)}; only height and width")
    y = tf.reduce_mean(x.tensor, (1, 2), keepdims=keepdim)
    return x.with_tensor(y, (*x.shape[:2], 1, 1) if keepdim else x.shape[:2])


@handles("aten.linear")
def project(
    tf: Any,
    x: Value,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32] | None = None,
) -> Value:
    """Fully connected layer (N,F) -> (N,G)."""
    if len(x.shape) != 2:
        raise Untranslatable(f"a linear layer on a tensor of {len(x.shape)} dimensions")
    if x.flattened_from is not None:
        channels, height, width = x.flattened_from
        by_image = weight.reshape(-1, channels, height, width)
        weight = by_image.transpose(0, 2, 3, 1).reshape(weight.shape)
    y = tf.linalg.matmul(x.tensor, np.ascontiguousarray(weight.T))
    if bias is not None:
        y = tf.nn.bias_add(y, bias)
    return Value(y, (x.shape[0], weight.shape[0]))


@handles("aten.add", "aten.add_")
def add(tf: Any, x: Value, other: Value | float, alpha: float = 1) -> Value:
    """Sum of two tensors of one shape, or of a tensor and a number."""
    if alpha != 1:
        raise Untranslatable(f"addition with alpha={alpha}")
    if not isinstance(other, Value):
        return x.with_tensor(x.tensor + other, nonnegative=False)
    if x.shape != other.shape or x.flattened_from != other.flattened_from:
        raise Untranslatable(f"a sum of shapes {x.shape} and {other.shape}")
    return x.with_tensor(x.tensor + other.tensor, nonnegative=x.nonnegative and other.nonnegative)


@handles("aten.cat", "aten.concat")
def concatenate(tf: Any, parts: Sequence[Value], dim: int = 0) -> Value:
    """Concatenation of images, or of rows that were never flattened images."""
    first = parts[0]
    axis = dim % len(first.shape)
    if any(part.flattened_from is not None for part in parts):
        raise Untranslatable("a concatenation of flattened images")
    shape = list(first.shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    here = {0: 0, 1: 3, 2: 1, 3: 2}[axis] if first.is_image else axis
    y = tf.concat([part.tensor for part in parts], here)
    return Value(y, tuple(shape), nonnegative=all(part.nonnegative for part in parts))


@handles("headgate.place_channels")
def place_channels(
    tf: Any, x: Value, constant: NDArray[np.float32], channels: Sequence[int]
) -> Value:
    """What a pruned layer has left, among all channels of a residual sum.

    A 1x1 convolution with a matrix of zeros and ones, the constants being its bias, where the
    convolution in front cannot do it for less (``place.py``).
    """
    # The operator leaves what the constant holds in the places of x unused.
    bias = constant.copy()
    bias[list(channels)] = 0
    matrix = np.zeros((1, 1, len(channels), len(constant)), np.float32)
    matrix[0, 0, range(len(channels)), list(channels)] = 1
    y = tf.nn.bias_add(tf.nn.conv2d(x.tensor, matrix, 1, "VALID"), bias)
    return Value(
        y,
        (x.shape[0], len(constant), *x.shape[2:]),
        nonnegative=x.nonnegative and bool((bias >= 0).all()),
    )


@handles("aten.flatten", "aten.view", "aten.reshape", "aten._unsafe_view")
def reshape(tf: Any, x: Value, *arguments: Any) -> Value:
    """Flattening everything but the batch; other reshapes would need PyTorch's layout."""
    shape = arguments[0] if arguments and isinstance(arguments[0], (list, tuple)) else None
    if shape is None:
        start, end = (*arguments, 0, -1)[:2] if len(arguments) != 1 else (arguments[0], -1)
        last = end % len(x.shape)
        merged = math.prod(x.shape[start : last + 1])
        shape = (*x.shape[:start], merged, *x.shape[last + 1 :])
    features = math.prod(x.shape[1:])
    if tuple(shape) in ((x.shape[0], features), (x.shape[0], -1), (-1, features)):
        return flatten_image(x, tf.reshape) if x.is_image else x
    raise Untranslatable(f"reshaping {x.shape} to {tuple(shape)}; only (N, features)")


@handles("aten.dropout", "aten.dropout_", "aten.clone", "aten.contiguous", "aten.alias")
def keep(tf: Any, x: Value, *arguments: Any, **options: Any) -> Value:
    """Nothing to do when a network is evaluated."""
    return x


def _depthwise(
    tf: Any,
    image: Any,
    filters: NDArray[np.float32],
    stride: Sequence[int],
    mode: str,
    dilation: Sequence[int],
) -> Any:
    if stride[0] != stride[1]:
        raise Untranslatable(f"a depthwise convolution with strides {list(stride)}")
    if max(stride) > 1 and max(dilation) > 1:
        raise Untranslatable("a depthwise convolution with both stride and dilation")
    strides = (1, *stride, 1)
    return tf.nn.depthwise_conv2d(image, filters, strides, mode, dilations=dilation)


def _pad(
    tf: Any,
    x: Value,
    extent: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    fill: float,
) -> tuple[Any, str, tuple[int, ...]]:
    """The image to slide a window over, TensorFlow's padding mode, and the output (H,W).

    TensorFlow's ``SAME`` puts the odd pixel of padding at the end where PyTorch pads both ends
    alike, so it is used only where the two agree; elsewhere the margin becomes an operator.
    """
    size = _output_size(x.shape[2:], extent, stride, padding)
    if not any(padding):
        return x.tensor, "VALID", size
    for have, window, step, margin in zip(x.shape[2:], extent, stride, padding, strict=True):
        total = max((math.ceil(have / step) - 1) * step + window - have, 0)
        if total != 2 * margin:
            filled = tf.pad(x.tensor, _margins(padding), constant_values=fill)
            return filled, "VALID", size
    return x.tensor, "SAME", size


def _output_size(
    held: Sequence[int], extent: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> tuple[int, ...]:
    sides = zip(held, extent, stride, padding, strict=True)
    return tuple((have + 2 * margin - window) // step + 1 for have, window, step, margin in sides)


def _margins(padding: Sequence[int]) -> list[list[int]]:
    return [[0, 0], [padding[0]] * 2, [padding[1]] * 2, [0, 0]]


def _pair(value: Sequence[int] | int) -> list[int]:
    numbers = [value] if isinstance(value, int) else list(value)
    return numbers * 2 if len(numbers) == 1 else numbers
