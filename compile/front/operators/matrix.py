"""Products of matrices: a layer of weights, two tensors, or an image and how it is resized."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from tvm import te

from headgate.compile.front.graph import Value
from headgate.compile.front.operators import scalar
from headgate.compile.front.operators.arithmetic import arithmetic
from headgate.compile.front.operators.pointwise import broadcast, pointwise
from headgate.compile.front.operators.scalar import Expr
from headgate.compile.front.reading import Call


def _addmm(call: Call) -> Value:
    bias, x, weight = call["self"], call["mat1"], call["mat2"]
    alpha, beta = float(call["alpha"]), float(call["beta"])
    outputs = weight.shape[1]
    each = bias.data is not None and bias.shape in ((), (1,), (1, 1), (outputs,), (1, outputs))
    if weight.data is not None and x.data is None and each and call.dtype == "float32":
        assert bias.data is not None
        wide = np.broadcast_to(bias.data.reshape(-1), (outputs,))
        return _linear(call, x, weight.data.T * np.float32(alpha), wide * np.float32(beta))
    product = _product(call, x, weight, ".product")
    if alpha != 1:
        product = pointwise(call, lambda v: v * alpha, [product], suffix=".scaled")
    return arithmetic("add", call, product, bias, beta)


def _product(call: Call, a: Value, b: Value, suffix: str = "") -> Value:
    if b.data is not None and a.data is None and call.dtype == "float32":
        return _linear(call, a, b.data.T, np.zeros(b.shape[1], np.float32), suffix)
    return _matmul(call, a, b, suffix)


def _linear(call: Call, x: Value, weight: np.ndarray, bias: np.ndarray, suffix: str = "") -> Value:
    """Every row of ``x`` times ``weight`` (outputs, inputs)."""
    weight, bias = np.ascontiguousarray(weight), np.ascontiguousarray(bias, np.float32)
    return call.node("linear", [x], suffix=suffix, weight=weight, bias=bias)


def _distances(call: Call) -> Value:
    """The p-norm of the difference of every row of one and every row of the other."""
    a, b, p = call["x1"], call["x2"], float(call["p"])
    call["compute_mode"]  # one way to the same numbers
    inner = a.shape[-1]

    def element(readers: Sequence[Any], *out: Expr) -> Expr:
        *leading, row, column = out
        k = te.reduce_axis((0, inner), name="k")
        difference = readers[0](*broadcast([*leading, row, k], a.shape)) - readers[1](
            *broadcast([*leading, column, k], b.shape)
        )
        size = scalar.absolute(difference)
        if p == np.inf:
            return te.max(size, axis=k)
        if p == 0:
            return te.sum(scalar.cast(scalar.truth(size), "float32"), axis=k)
        powered = size if p == 1 else size * size if p == 2 else scalar.power(size, size * 0 + p)
        return te.sum(powered, axis=k)

    if p in (0, 1, np.inf):
        return call.compute([a, b], element, reduces=True)
    sums = call.compute([a, b], element, reduces=True, suffix=".sums")
    if p == 2:
        return pointwise(call, scalar.sqrt, [sums])
    return pointwise(call, scalar.power, [sums, 1 / p])


def _matmul(call: Call, a: Value, b: Value, suffix: str = "") -> Value:
    """Products of matrices (..., M, K) and (..., K, N), one for each leading index."""
    if call.dtype == "float32":
        return call.node("matmul", [a, b], suffix=suffix)
    inner = a.shape[-1]

    def element(readers: Sequence[Any], *out: Expr) -> Expr:
        *leading, row, column = out
        k = te.reduce_axis((0, inner), name="k")
        return te.sum(readers[0](*leading, row, k) * readers[1](*leading, k, column), axis=k)

    return call.compute([a, b], element, reduces=True, suffix=suffix)


def _antialiased(call: Call) -> Value:
    """Resizing with antialiasing: every row, then every column, times a matrix of weights."""
    x, align = call["input" if call.has("input") else "self"], bool(call["align_corners"])
    call["output_size"]
    scales = (call["scales_h"], call["scales_w"])
    for number, axis in enumerate((2, 3)):
        size, out = x.shape[axis], call.shape[axis]
        # Resizing the unit matrix in one direction gives the weights of that direction.
        target: Any = call.fx.target
        weights = target(torch.eye(size)[None, None], [out, size], align, scales[number], None)
        rows = call.constant(weights[0, 0].numpy(), f".weights{number}")
        shape = (*x.shape[:axis], out, *x.shape[axis + 1 :])
        suffix = "" if axis == 3 else ".rows"
        element = _along(axis, size)
        x = call.compute([x, rows], element, shape, reduces=True, suffix=suffix)
    return x


def _along(axis: int, size: int) -> Callable[..., Expr]:
    def element(readers: Sequence[Any], *out: Expr) -> Expr:
        k = te.reduce_axis((0, size), name="k")
        return te.sum(
            readers[0](*out[:axis], k, *out[axis + 1 :]) * readers[1](out[axis], k), axis=k
        )

    return element


HANDLERS: dict[str, Callable[[Call], Any]] = {
    "aten._cdist_forward.default": _distances,
    "aten._upsample_bicubic2d_aa.default": _antialiased,
    "aten._upsample_bilinear2d_aa.default": _antialiased,
    "aten.addmm.default": _addmm,
    "aten.bmm.default": lambda call: _matmul(call, call["self"], call["mat2"]),
    "aten.mm.default": lambda call: _product(call, call["self"], call["mat2"]),
}
