"""Functions of single numbers: what becomes one table of 256 codes, however long its chain is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import ir, tirx

from headgate.compile.front.graph import Graph, Node, Value
from headgate.compile.front.inline import bounded
from headgate.compile.front.quantize.numbers import Unknown, curve
from headgate.device.tensor_type import FLOAT32

_MOST_ROWS = 512
"""Channels that may have a table each."""
_POWERS = 2.0 ** np.arange(7, 24)
_NUMBERS = np.concatenate([np.arange(-1024, 1025) / 16, _POWERS, -_POWERS])
"""Where a function is looked at, to find whether it is ever below zero."""


@dataclass(frozen=True)
class Curve:
    """``formula`` of the numbers ``x`` of one tensor, ``root``, in place.

    ``constants`` are the formula's other variables: numbers (channels, 1).
    """

    root: Value
    x: tirx.Var
    constants: Mapping[tirx.Var, np.ndarray]
    formula: Any

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """What it makes of ``numbers`` (N,): (channels, N) float64, or (1, N) the same for all."""
        found = curve(self.formula, {self.x: numbers, **self.constants})
        rows = np.broadcast_to(found, (self._channels, len(numbers))).astype(np.float64)
        return rows[:1] if (rows == rows[:1]).all() else rows

    @property
    def _channels(self) -> int:
        return max((len(c) for c in self.constants.values()), default=1)

    def keeps_sign(self, positive: bool) -> bool:
        """Whether it makes nothing negative, ``positive``: of what is not negative itself."""
        found = self.of(_NUMBERS[_NUMBERS >= 0] if positive else _NUMBERS)
        return bool((found[~np.isnan(found)] >= 0).all())


class _NoCurve(Exception):
    """A formula reads other numbers than the one in its place."""


def find_curves(graph: Graph) -> dict[Value, Curve]:
    """Those of ``compute`` nodes that are such functions, and of activations behind one."""
    found: dict[Value, Curve] = {}
    for node in graph.nodes:
        behind = node.kind == "clamp" and node.inputs[0] in found
        if behind or (node.kind == "compute" and not node.attributes.get("reduces")):
            try:
                made = _curve(node, found)
                made.of(_NUMBERS)
            except (_NoCurve, Unknown):
                continue
            found[node.output] = made
    return found


def _curve(node: Node, known: Mapping[Value, Curve]) -> Curve:
    own = [v for v in node.inputs if v.data is None]
    curves = [known[v] if v in known else Curve(v, tirx.Var("x", FLOAT32), {}, None) for v in own]
    roots = {c.root for c in curves}
    if len(roots) != 1 or any(v.shape != node.output.shape for v in own):
        raise _NoCurve
    (root,) = roots
    if root.dtype != FLOAT32:
        raise _NoCurve
    x = curves[0].x
    constants: dict[tirx.Var, np.ndarray] = {}
    indices = [tirx.Var(f"i{axis}", "int32") for axis in range(len(node.output.shape))]

    def reader(value: Value) -> Callable[..., Any]:
        def read(*places: Any) -> Any:
            if value.data is not None:
                return _constant(value.data, places, indices, constants)
            for place, index, size in zip(places, indices, value.shape, strict=True):
                if size > 1 and not _same(place, index):
                    raise _NoCurve
            if value not in known:
                return x
            inner = known[value]
            constants.update(inner.constants)
            return tirx.Let(inner.x, x, inner.formula) if inner.x is not x else inner.formula

        return read

    element = bounded(node) if node.kind == "clamp" else node["element"]
    formula = element([reader(v) for v in node.inputs], *indices)
    return Curve(root, x, constants, formula)


def _constant(
    data: np.ndarray, places: Any, indices: list[Any], constants: dict[tirx.Var, np.ndarray]
) -> Any:
    """One number for all, or a variable that is one for each channel."""
    if data.size and (data == data.flat[0]).all():
        return tirx.const(data.flat[0].item(), str(data.dtype))
    wide = [axis for axis, size in enumerate(data.shape) if size > 1]
    by_channel = len(wide) == 1 and len(indices) > 1 and _same(places[wide[0]], indices[1])
    if not by_channel or data.size > _MOST_ROWS or data.dtype != FLOAT32:
        raise _NoCurve
    found = tirx.Var("c", FLOAT32)
    constants[found] = data.reshape(-1, 1).astype(np.float64)
    return found


def _same(place: Any, index: Any) -> bool:
    return isinstance(place, ir.Expr) and bool(place.same_as(index))
