"""The Relax operators that the schedules know: one small function each, and a table of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from headgate.compile.convert import Converter, Handler, dtype_of, integers, shape_of
from headgate.compile.graph import Node, Value


def _conv2d(converter: Converter, call: Any, arguments: list[Any], var: Any) -> Value | None:
    x, weight = arguments
    attributes = call.attrs
    if weight.data is None or attributes.data_layout != "NCHW":
        return None
    return converter.node(
        "conv2d",
        [x],
        var,
        weight=weight.data,
        bias=np.zeros(weight.shape[0], np.float32),
        stride=integers(attributes.strides),
        padding=integers(attributes.padding),
        dilation=integers(attributes.dilation),
        groups=int(attributes.groups),
    )


def _gated_conv2d(converter: Converter, call: Any, arguments: list[Any], var: Any) -> Value:
    x, weight, scale, bias, gate, shift = arguments[1:7]
    stride, padding, dilation, groups = (integers(a.values) for a in call.args[7:11])
    return converter.node(
        "gated_conv2d",
        [x, gate],
        var,
        weight=weight.data * scale.data.reshape(-1, 1, 1, 1),
        bias=bias.data.reshape(-1),
        shift=shift.data.reshape(-1),
        stride=stride,
        padding=(*padding, *padding),
        dilation=dilation,
        groups=groups[0],
    )


def _pixel_gated_conv2d(converter: Converter, call: Any, arguments: list[Any], var: Any) -> Value:
    x, weight, *vectors = arguments[1:9]
    names = ("gate_scale", "gate_bias", "base_scale", "base_bias", "full_scale", "full_bias")
    stride, padding, dilation, partitions, grouped, shuffle, block = (
        integers(a.values) for a in call.args[9:16]
    )
    return converter.node(
        "pixel_gated_conv2d",
        [x],
        var,
        weight=weight.data,
        **{name: v.data.reshape(-1) for name, v in zip(names, vectors, strict=True)},
        stride=stride,
        padding=(*padding, *padding),
        dilation=dilation,
        groups=1,
        partitions=partitions[0],
        grouped=bool(grouped[0]),
        shuffle=bool(shuffle[0]),
        block=block,
    )


def _place_channels(converter: Converter, call: Any, arguments: list[Any], var: Any) -> Value:
    x, constant = arguments[1:3]
    channels = integers(call.args[3].values)
    return converter.node(
        "place_channels", [x], var, constant=constant.data.reshape(-1), channels=channels
    )


def _keep_top_k(converter: Converter, call: Any, arguments: list[Any], var: Any) -> Value:
    return converter.node("keep_top_k", [arguments[1]], var, k=integers(call.args[2].values)[0])


def _batch_norm(
    converter: Converter, call: Any, arguments: list[Any], var: Any
) -> list[Any] | None:
    x, gamma, beta, mean, variance = arguments
    if call.attrs.axis != 1 or any(a.data is None for a in (gamma, beta, mean, variance)):
        return None
    scale = gamma.data / np.sqrt(variance.data + np.float32(call.attrs.epsilon))
    shift = beta.data - mean.data * scale
    output = Value(var.name, x.shape)
    affine = {"scale": scale.astype(np.float32), "shift": shift.astype(np.float32)}
    converter.nodes.append(Node("affine", [x], output, converter.path, affine))
    return [output, mean, variance]


def _per_channel(value: Value, like: Value) -> np.ndarray | None:
    """A constant that varies over channels only, as one number for each."""
    if value.data is None or len(like.shape) not in (2, 4):
        return None
    shape = (1,) * (len(like.shape) - value.data.ndim) + value.data.shape
    if shape not in {(1,) * len(shape), (1, like.channels) + (1,) * (len(shape) - 2)}:
        return None
    return np.broadcast_to(value.data.reshape(-1), (like.channels,)).astype(np.float32)


def _arithmetic(converter: Converter, call: Any, arguments: list[Any], var: Any) -> Value | None:
    a, b = arguments
    name = call.op.name
    if a.data is not None and name in ("relax.add", "relax.multiply"):
        a, b = b, a
    constant = _per_channel(b, a)
    if constant is not None and a.shape == shape_of(var):
        one, zero = np.ones_like(constant), np.zeros_like(constant)
        scale, shift = {
            "relax.add": lambda c: (one, c),
            "relax.subtract": lambda c: (one, -c),
            "relax.multiply": lambda c: (c, zero),
            "relax.divide": lambda c: (1 / c, zero),
        }[name](constant)
        return converter.node("affine", [a], var, scale=scale, shift=shift)
    if name == "relax.add" and a.shape == b.shape and a.data is None and b.data is None:
        return converter.node("add", [a, b], var)
    return None


def _clamp(converter: Converter, call: Any, arguments: list[Any], var: Any) -> Value:
    low, high = {
        "relax.nn.relu": (0.0, None),
        "relax.nn.relu6": (0.0, 6.0),
    }.get(call.op.name, (None, None))
    if call.op.name == "relax.clip":
        low, high = (float(a.value) for a in call.args[1:3])
        low = None if low == -np.inf else low
        high = None if high == np.inf else high
    return converter.node("clamp", [arguments[0]], var, low=low, high=high)


def _absolute(converter: Converter, call: Any, arguments: list[Any], var: Any) -> Value:
    return converter.node("abs", [arguments[0]], var, call=call, operator="abs")


def _pool(converter: Converter, call: Any, arguments: list[Any], var: Any) -> Value | None:
    kind = call.op.name.removeprefix("relax.nn.")
    attributes = call.attrs
    padding = integers(attributes.padding)
    if attributes.ceil_mode or attributes.layout != "NCHW":
        return None
    if kind == "avg_pool2d" and any(padding) and not attributes.count_include_pad:
        return None
    return converter.node(
        kind,
        [arguments[0]],
        var,
        kernel=integers(attributes.pool_size),
        stride=integers(attributes.strides),
        padding=padding,
        dilation=integers(attributes.dilation),
    )


def _adaptive_pool(converter: Converter, call: Any, arguments: list[Any], var: Any) -> Value | None:
    x = arguments[0]
    out = shape_of(var)[2:]
    if out == (1, 1):
        return converter.node("channel_mean", [x], var, absolute=False)
    if any(size % parts for size, parts in zip(x.shape[2:], out, strict=True)):
        return None
    window = tuple(size // parts for size, parts in zip(x.shape[2:], out, strict=True))
    if window == (1, 1):
        return x
    return converter.node(
        "avg_pool2d",
        [x],
        var,
        kernel=window,
        stride=window,
        padding=(0, 0, 0, 0),
        dilation=(1, 1),
    )


def _mean(converter: Converter, call: Any, arguments: list[Any], var: Any) -> Value | None:
    x = arguments[0]
    if len(x.shape) != 4 or call.attrs.axis is None:
        return None
    if sorted(a % 4 for a in integers(call.attrs.axis)) != [2, 3]:
        return None
    return converter.node("channel_mean", [x], var, absolute=False)


def _concat(converter: Converter, call: Any, arguments: list[Any], var: Any) -> Value | None:
    values = arguments[0]
    axis = int(call.attrs.axis)
    if axis % len(shape_of(var)) != 1 or any(v.data is not None for v in values):
        return None
    return converter.node("concat", list(values), var)


def _arange(converter: Converter, call: Any, arguments: list[Any], var: Any) -> Value:
    start, end, step = (argument.value for argument in call.args)
    return converter.constant(np.arange(start, end, step).astype(dtype_of(var)))


def _split(converter: Converter, call: Any, arguments: list[Any], var: Any) -> list[Value]:
    x, axis = arguments[0], int(call.attrs.axis)
    parts = call.attrs.indices_or_sections
    size = x.shape[axis]
    if isinstance(parts, int):
        ends = list(range(-(-size // parts), size, -(-size // parts)))
    else:
        ends = list(integers(parts))
    results: list[Value] = []
    for begin, end in zip([0, *ends], [*ends, size], strict=True):
        piece = relax.op.strided_slice(call.args[0], [axis], [begin], [end])
        shape = (*x.shape[:axis], end - begin, *x.shape[axis + 1 :])
        results.append(Value(f"{var.name}.{len(results)}", shape))
        converter.nodes.append(
            Node("relax", [x], results[-1], converter.path, {"call": piece, "operator": "split"})
        )
    return results


def _reshape(converter: Converter, call: Any, arguments: list[Any], var: Any) -> Value:
    x = arguments[0]
    if x.data is not None:
        return converter.constant(x.data.reshape(shape_of(var)))
    return converter.node("reshape", [x], var)


def _permute(converter: Converter, call: Any, arguments: list[Any], var: Any) -> Value | None:
    x = arguments[0]
    if x.data is None:
        return None
    axes = call.attrs.axes
    return converter.constant(x.data.transpose(None if axes is None else integers(axes)))


def _matmul(converter: Converter, call: Any, arguments: list[Any], var: Any) -> Value | None:
    x, weight = arguments
    if weight.data is None or weight.data.ndim != 2 or x.size != weight.shape[0]:
        return None
    bias = np.zeros(weight.shape[1], np.float32)
    return converter.node("linear", [x], var, weight=weight.data.T, bias=bias)


OPERATORS: dict[str, Handler] = {
    "relax.nn.conv2d": _conv2d,
    "headgate.gated_conv2d": _gated_conv2d,
    "headgate.pixel_gated_conv2d": _pixel_gated_conv2d,
    "headgate.place_channels": _place_channels,
    "headgate.keep_top_k": _keep_top_k,
    "relax.nn.batch_norm": _batch_norm,
    "relax.add": _arithmetic,
    "relax.subtract": _arithmetic,
    "relax.multiply": _arithmetic,
    "relax.divide": _arithmetic,
    "relax.nn.relu": _clamp,
    "relax.nn.relu6": _clamp,
    "relax.clip": _clamp,
    "relax.abs": _absolute,
    "relax.nn.max_pool2d": _pool,
    "relax.nn.avg_pool2d": _pool,
    "relax.nn.adaptive_avg_pool2d": _adaptive_pool,
    "relax.mean": _mean,
    "relax.concat": _concat,
    "relax.arange": _arange,
    "relax.split": _split,
    "relax.reshape": _reshape,
    "relax.squeeze": _reshape,
    "relax.expand_dims": _reshape,
    "relax.permute_dims": _permute,
    "relax.matmul": _matmul,
}
