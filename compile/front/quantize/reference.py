"""What every operator of a graph of codes is: NumPy, integers, one rounding at a time.

Kernels equal it to the bit, on every target. Sums of products are exact; float64 holds them, as
they stay below 2^53. What follows is float32, one operation after another, and the code is the
nearest integer, half to even.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from headgate.compile.front.graph import Graph, Node, Value
from headgate.compile.front.quantize.numbers import numbers_of

Arrays = list[np.ndarray]


Known = dict[Value, np.ndarray]
Other = Callable[[Node, Known], np.ndarray]
"""The result of a node that stays float32, from the values before it."""


def evaluate(graph: Graph, inputs: Arrays, other: Other | None = None) -> Known:
    """Every value of ``graph`` for one sample (1, ...) of each input.

    ``other`` computes what is no operator of codes; None: there is nothing like that.
    """
    values: Known = dict(zip(graph.inputs, inputs, strict=True))
    for node in graph.nodes:
        values[node.output] = result_of(node, values, other)
    return values


def result_of(node: Node, values: Known, other: Other | None = None) -> np.ndarray:
    """One node's result from the values before it."""
    read = [values[v] if v.data is None else v.data for v in node.inputs]
    if other is None or is_defined(node):
        result = OPERATORS[node.kind](node, read)
    else:
        result = other(node, values)
    return np.ascontiguousarray(result, node.output.dtype).reshape(node.output.shape)


_OF_ANY_TYPE = ("keep_top_k", "concat", "reshape")


def is_defined(node: Node) -> bool:
    """Whether the result of ``node`` is defined to the bit; else it is some layer of float32."""
    if node.kind == "compute":
        return "formula" in node.attributes
    return node.kind in OPERATORS and (
        is_coded(node) or node.kind in (*_OF_ANY_TYPE, "add", "clamp")
    )


def is_coded(node: Node) -> bool:
    """Whether ``node`` reads or makes codes."""
    return any(v.type.quantization is not None for v in (*node.inputs, node.output))


def is_float(node: Node) -> bool:
    """Whether ``node`` is arithmetic that stays float32."""
    return not is_coded(node) and node.kind not in _OF_ANY_TYPE


def code(values: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """The nearest code to float32 numbers, half to even."""
    low, high = (np.float32(bound) for bound in bounds)
    return np.rint(np.minimum(np.maximum(values, low), high))


def _channels(numbers: np.ndarray) -> np.ndarray:
    """One number a channel, to go with an image."""
    return np.asarray(numbers, np.float32).reshape(1, -1, 1, 1)


def _windows(x: np.ndarray, node: Node, kernel: tuple[int, int], border: float) -> np.ndarray:
    """What each pixel of the result reads: (images, channels, taps, rows, columns), float64."""
    top, left, bottom, right = node["padding"]
    padded = np.pad(
        x.astype(np.float64),
        ((0, 0), (0, 0), (top, bottom), (left, right)),
        constant_values=border,
    )
    (high, wide), (down, across) = node["dilation"], node["stride"]
    rows = (padded.shape[2] - (kernel[0] - 1) * high - 1) // down + 1
    columns = (padded.shape[3] - (kernel[1] - 1) * wide - 1) // across + 1
    taps = [
        padded[
            :,
            :,
            r * high : r * high + (rows - 1) * down + 1 : down,
            s * wide : s * wide + (columns - 1) * across + 1 : across,
        ]
        for r in range(kernel[0])
        for s in range(kernel[1])
    ]
    return np.stack(taps, axis=2)


def _sums(node: Node, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A convolution's sums of products and bias, float64 that are integers."""
    weight = weight.astype(np.float64)
    outputs, inputs, *kernel = weight.shape
    windows = _windows(x, node, (kernel[0], kernel[1]), 0)
    images, _, taps, rows, columns = windows.shape
    groups = node["groups"]
    by_group = windows.reshape(images, groups, inputs * taps, rows * columns)
    weights = weight.reshape(groups, outputs // groups, inputs * taps)
    products = np.matmul(weights[None], by_group).reshape(images, outputs, rows, columns)
    return products + node["bias"].astype(np.float64).reshape(1, -1, 1, 1)


def _convolution(node: Node, read: Arrays) -> np.ndarray:
    gate = read[1] if node.kind == "gated_conv2d" else None
    factor = node["factor"]
    if gate is not None:
        own = np.ones_like(factor) if node.attributes.get("follows") else gate.reshape(-1)
        factor = factor * own
    value = _sums(node, read[0], node["weight"]).astype(np.float32) * _channels(factor)
    if "shift" in node.attributes:
        value = value + _channels(node["shift"])
    residual = None
    if node["residual"]:
        residual = read[-1].astype(np.float32) * node["residual_factor"]
    if "placed" in node.attributes:
        whole = np.zeros(node.output.shape, np.float32) + _channels(node["constant"])
        whole[:, list(node["placed"])] = value
        value = whole
    if gate is not None:
        inactive = (gate.reshape(-1) == 0).reshape(1, -1, 1, 1)
        value = np.where(inactive, np.float32(0), value)
    if residual is not None:
        value = value + residual
    found = code(value, node["clamp"])
    if gate is not None and residual is None:
        # A channel that is skipped holds zero whatever its activation makes of zero.
        found = np.where(inactive, 0, found)
    return found


def _pixel_gated(node: Node, read: Arrays) -> np.ndarray:
    """A block whose scores, whole numbers, have a sum that is not above zero stays closed."""
    x, weight, parts = read[0], node["weight"], node["partitions"]
    images, channels, *size = x.shape
    if node["shuffle"]:
        x = x.reshape(images, parts, channels // parts, *size).swapaxes(1, 2).reshape(x.shape)
    outputs = len(weight)
    own = np.arange(outputs) * parts // outputs if node["grouped"] else np.zeros(outputs)
    of_base = own[:, None] == np.arange(channels) * parts // channels
    base = _sums(node, x, weight * of_base[:, :, None, None]).astype(np.float32)
    full = _sums(node, x, weight).astype(np.float32)
    score = np.rint(base * _channels(node["score_factor"]) + _channels(node["score_shift"]))
    value = np.where(
        _blocks(score, node["block"]) > 0,
        full * _channels(node["factor"]) + _channels(node["shift"]),
        base * _channels(node["base_factor"]) + _channels(node["base_shift"]),
    )
    if node["residual"]:
        value = value + read[-1].astype(np.float32) * node["residual_factor"]
    return code(value, node["clamp"])


def _blocks(score: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    """For every number the sum of its block, some channels by a run of pixels in order."""
    images, channels = score.shape[:2]
    flat = score.astype(np.float64).reshape(images, channels, -1)
    count = flat.shape[2]
    padded = np.pad(flat, ((0, 0), (0, 0), (0, -count % block[1])))
    by_block = padded.reshape(images, channels // block[0], block[0], -1, block[1])
    sums = np.zeros_like(by_block) + by_block.sum(axis=(2, 4), keepdims=True)
    return sums.reshape(images, channels, -1)[:, :, :count].reshape(score.shape)


def _linear(node: Node, read: Arrays) -> np.ndarray:
    x, weight = read[0].astype(np.float64), node["weight"].astype(np.float64)
    sums = x.reshape(-1, weight.shape[1]) @ weight.T + node["bias"].astype(np.float64)
    value = sums.astype(np.float32) * node["factor"]
    low, high = node["clamp"]
    if node.output.type.quantization is not None:
        return code(value, (low, high))
    value = value if low is None else np.maximum(value, np.float32(low))
    return value if high is None else np.minimum(value, np.float32(high))


def _channel_mean(node: Node, read: Arrays) -> np.ndarray:
    x = read[0].astype(np.float64)
    x = np.abs(x) if node["absolute"] else x
    sums = x.reshape(*x.shape[:2], -1).sum(axis=2)
    return code(sums.astype(np.float32) * node["factor"], node["clamp"])


def _avg_pool(node: Node, read: Arrays) -> np.ndarray:
    sums = _windows(read[0], node, node["kernel"], 0).sum(axis=2)
    return code(sums.astype(np.float32) * node["factor"], node["clamp"])


def _max_pool(node: Node, read: Arrays) -> np.ndarray:
    lowest = np.iinfo(read[0].dtype).min
    return code(_windows(read[0], node, node["kernel"], lowest).max(axis=2), node["clamp"])


def _sum(node: Node, read: Arrays) -> np.ndarray:
    low, high = (node["low"], node["high"]) if node.kind == "clamp" else node["clamp"]
    if node.output.type.quantization is None:
        value = sum(read[1:], read[0])
        value = value if low is None else np.maximum(value, np.float32(low))
        return value if high is None else np.minimum(value, np.float32(high))
    factors = node["factors"]
    terms = [x.astype(np.float32) * factors[i] for i, x in enumerate(read)]
    return code(sum(terms[1:], terms[0]), (low, high))


def _table(node: Node, read: Arrays) -> np.ndarray:
    """One table for all channels or one for each; codes are taken for bytes without sign."""
    (x,), table = read, node["table"]
    byte = x.view(np.uint8).astype(np.int64)
    if len(table) == 1:
        return table[0][byte]
    channels = np.arange(len(table)).reshape(-1, *[1] * (x.ndim - 2))
    return table[channels, byte]


def _compute(node: Node, read: Arrays) -> np.ndarray:
    return numbers_of(node["formula"], read, node.output.shape)


def _keep_top_k(node: Node, read: Arrays) -> np.ndarray:
    """Ties: what equals the (k+1)-th largest number is not greater, and closes with it."""
    (saliency,) = read
    ranked = np.sort(saliency.reshape(-1))[::-1]
    if node["k"] >= ranked.size:
        return saliency
    return np.where(saliency > ranked[node["k"]], saliency, np.float32(0))


OPERATORS: dict[str, Callable[[Node, Arrays], np.ndarray]] = {
    "quantize": lambda node, read: code(read[0] * node["factor"], node["clamp"]),
    "dequantize": lambda node, read: read[0].astype(np.float32) * node["factor"],
    "conv2d": _convolution,
    "gated_conv2d": _convolution,
    "pixel_gated_conv2d": _pixel_gated,
    "linear": _linear,
    "channel_mean": _channel_mean,
    "avg_pool2d": _avg_pool,
    "max_pool2d": _max_pool,
    "add": _sum,
    "clamp": _sum,
    "concat": lambda node, read: np.concatenate(read, axis=node["axis"]),
    "reshape": lambda node, read: read[0],
    "keep_top_k": _keep_top_k,
    "table": _table,
    "compute": _compute,
}
