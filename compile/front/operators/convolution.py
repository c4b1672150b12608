"""Convolutions of one, two and three dimensions, transposed ones, and batch norm."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import te, tirx

from headgate.compile.front.graph import Value
from headgate.compile.front.operators import scalar
from headgate.compile.front.operators.arithmetic import arithmetic
from headgate.compile.front.operators.layout import concatenated, padded
from headgate.compile.front.operators.pointwise import pointwise
from headgate.compile.front.operators.scalar import Expr
from headgate.compile.front.reading import Call, numbers


def each_image(call: Call, kind: str, inputs: Sequence[Value], **attributes: Any) -> Value:
    """A node of ``kind`` for each image of a batch: what a gate decides is one image's."""
    count = call.shape[0]
    if count == 1:
        return call.node(kind, inputs, **attributes)
    results = []
    for image in range(count):
        parts = [
            call.moved(
                x,
                lambda _, *place, image=image: (image, *place),
                (1, *x.shape[1:]),
                suffix=f".{x.name}.{image}",
                operator="image",
            )
            for x in inputs
        ]
        shape = (1, *call.shape[1:])
        results.append(call.node(kind, parts, shape, suffix=f".{image}", **attributes))
    return concatenated(call, results, 0)


@dataclass(frozen=True)
class _Geometry:
    """Of a convolution; ``sides`` are the padding before and behind each dimension."""

    stride: tuple[int, ...]
    sides: list[tuple[int, int]]
    dilation: tuple[int, ...]
    groups: int


def _convolution(call: Call) -> Value:
    x, weight, bias = call["input"], call["weight"], call["bias"]
    rank = len(x.shape) - 2
    stride, padding, dilation, behind = (
        numbers(call[n], rank) for n in ("stride", "padding", "dilation", "output_padding")
    )
    groups, sides = int(call["groups"]), [(p, p) for p in padding]
    if call["transposed"]:
        spans = zip(dilation, weight.shape[2:], padding, behind, strict=True)
        sides = [(d * (k - 1) - p, d * (k - 1) - p + o) for d, k, p, o in spans]
        x, sides = _spread(call, x, stride, sides)
        weight = _turned(call, weight, groups)
        stride = (1,) * rank
    geometry = _Geometry(stride, sides, dilation, groups)
    if weight.data is None or rank > 2 or x.dtype != "float32":
        return _by_definition(call, x, weight, bias, geometry)
    if bias is not None and bias.data is None:
        raise call.refused("as its bias depends on the input", "add it as a tensor of its own")
    return _planar(call, x, weight.data, bias, geometry)


def _planar(
    call: Call, x: Value, weight: np.ndarray, bias: Value | None, geometry: _Geometry
) -> Value:
    """A ``conv2d`` node; in one dimension, of images of height one."""
    flat = weight.ndim == 3
    stride, dilation, sides = geometry.stride, geometry.dilation, geometry.sides
    if flat:
        weight = weight[:, :, None]
        x = call.reshape(x, (*x.shape[:2], 1, x.shape[2]), ".row")
        stride, dilation, sides = (1, *stride), (1, *dilation), [(0, 0), *sides]
    (top, bottom), (left, right) = sides
    result = call.node(
        "conv2d",
        [x],
        (*call.shape[:2], 1, call.shape[2]) if flat else call.shape,
        suffix=".image" if flat else "",
        weight=np.ascontiguousarray(weight),
        bias=np.zeros(weight.shape[0], np.float32) if bias is None else bias.data,
        stride=stride,
        padding=(top, left, bottom, right),
        dilation=dilation,
        groups=geometry.groups,
    )
    return call.reshape(result, call.shape) if flat else result


def _by_definition(
    call: Call, x: Value, weight: Value, bias: Value | None, geometry: _Geometry
) -> Value:
    """The sum that defines a convolution, for any rank and for weights that are computed."""
    sides, groups = geometry.sides, geometry.groups
    if any(before or after for before, after in sides):
        sizes = [n + sum(s) for n, s in zip(x.shape[2:], sides, strict=True)]
        starts = [0, 0, *(before for before, _ in sides)]
        x = padded(call, x, starts, (*x.shape[:2], *sizes), 0.0, ".padded")
    outputs, inputs = weight.shape[0] // groups, weight.shape[1]
    kernel = weight.shape[2:]

    def element(readers: Sequence[Any], image: Expr, channel: Expr, *place: Expr) -> Expr:
        c = te.reduce_axis((0, inputs), name="c")
        taps = [te.reduce_axis((0, n), name=f"k{a}") for a, n in enumerate(kernel)]
        steps = zip(place, geometry.stride, taps, geometry.dilation, strict=True)
        source = [p * s + k * d for p, s, k, d in steps]
        group = 0 if groups == 1 else tirx.floordiv(channel, outputs) * inputs
        product = readers[0](image, group + c, *source) * readers[1](channel, c, *taps)
        return te.sum(product, axis=[c, *taps])

    macs = math.prod(call.shape) * inputs * math.prod(kernel)
    suffix = "" if bias is None else ".sum"
    result = call.compute([x, weight], element, reduces=True, macs=macs, suffix=suffix)
    if bias is None:
        return result
    shaped = call.reshape(bias, (1, bias.size, *(1,) * len(kernel)), ".bias")
    return arithmetic("add", call, result, shaped)


def _spread(
    call: Call, x: Value, stride: tuple[int, ...], sides: list[tuple[int, int]]
) -> tuple[Value, list[tuple[int, int]]]:
    """The input of the convolution that a transposed one is: zeros between its numbers.

    And the padding on both sides of it, which is cut off here where it is negative.
    """
    sizes = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], stride, strict=True)]
    if any(s > 1 for s in stride):

        def element(readers: Sequence[Any], image: Expr, channel: Expr, *place: Expr) -> Expr:
            source = [tirx.floordiv(p, s) for p, s in zip(place, stride, strict=True)]
            hits = [
                tirx.EQ(tirx.floormod(p, s), 0) for p, s in zip(place, stride, strict=True) if s > 1
            ]
            zero = scalar.immediate(0, x.dtype)
            return scalar.guarded(scalar.every(hits), readers[0](image, channel, *source), zero)

        x = call.compute([x], element, (*x.shape[:2], *sizes), suffix=".spread", dtype=x.dtype)
    if any(n < 0 for side in sides for n in side):
        cut = [(min(a, 0), min(b, 0)) for a, b in sides]
        shape = [n + a + b for n, (a, b) in zip(sizes, cut, strict=True)]
        starts = [0, 0, *(a for a, _ in cut)]
        x = padded(call, x, starts, (*x.shape[:2], *shape), 0.0, ".cut")
        sides = [(max(a, 0), max(b, 0)) for a, b in sides]
    return x, sides


def _turned(call: Call, weight: Value, groups: int) -> Value:
    """Weights (inputs, outputs / groups, ...) in the order of a convolution that is not."""
    inputs, outputs, *kernel = weight.shape
    if weight.data is None:
        raise call.refused("as its weights depend on the input")
    data = weight.data.reshape(groups, inputs // groups, outputs, *kernel).swapaxes(1, 2)
    data = data.reshape(groups * outputs, inputs // groups, *kernel)
    return call.constant(np.flip(data, tuple(range(2, data.ndim))).copy(), ".turned")


def _batch_norm(call: Call) -> list[Value | None]:
    x, weight, bias = call["input"], call["weight"], call["bias"]
    mean, variance, eps = call["running_mean"], call["running_var"], float(call["eps"])
    call["momentum"]  # of the running statistics, which stay as they are
    given = [v for v in (weight, bias, mean, variance) if v is not None]
    if any(v.data is None for v in given):
        raise call.refused("as its statistics or factors depend on the input")
    scale = 1 / np.sqrt(variance.data.astype(np.float64) + eps)
    scale = scale if weight is None else scale * weight.data
    shift = -mean.data * scale if bias is None else bias.data - mean.data * scale
    scale, shift = scale.astype(np.float32), shift.astype(np.float32)
    if len(x.shape) > 2 or x.shape[0] == 1 or _is_linear(call, x):
        return [call.node("affine", [x], scale=scale, shift=shift), None, None]
    rows = [call.constant(v[None], f".{n}") for n, v in (("scale", scale), ("shift", shift))]
    return [pointwise(call, lambda v, a, b: v * a + b, [x, *rows]), None, None]


def _is_linear(call: Call, x: Value) -> bool:
    """Whether a layer of weights has just made ``x``, which then takes the norm in."""
    last = call.graph.nodes[-1] if call.graph.nodes else None
    return last is not None and last.output is x and last.kind == "linear"


HANDLERS: dict[str, Callable[[Call], Any]] = {
    "aten.convolution.default": _convolution,
    "aten._native_batch_norm_legit_no_training.default": _batch_norm,
}
