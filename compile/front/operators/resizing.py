"""Resizing with antialiasing: every row, then every column, times a matrix of weights.

The other resizings are taken apart by PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tvm import te

from headgate.compile.front.graph import Value
from headgate.compile.front.operators.scalar import Expr
from headgate.compile.front.reading import Call


def _antialiased(call: Call) -> Value:
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
        x = call.compute([x, rows], element, shape, reduces=True, rereads=True, suffix=suffix)
    return x


def _along(axis: int, size: int) -> Callable[..., Expr]:
    def element(readers: Sequence[Any], *out: Expr) -> Expr:
        k = te.reduce_axis((0, size), name="k")
        return te.sum(
            readers[0](*out[:axis], k, *out[axis + 1 :]) * readers[1](out[axis], k), axis=k
        )

    return element


HANDLERS: dict[str, Callable[[Call], Any]] = {
    "aten._upsample_bicubic2d_aa.default": _antialiased,
    "aten._upsample_bilinear2d_aa.default": _antialiased,
}
