"""The operators that the compiler knows: one small function each, by what they do.

A handler reads a :class:`~headgate.compile.front.reading.Call` and appends nodes to its graph.
Whatever has no row in ``OPERATORS`` is taken apart by PyTorch (``capture.py``) or refused by
name.
"""

from headgate.compile.front.operators import (
    arithmetic,
    convolution,
    gates,
    indexing,
    layout,
    matrix,
    ordering,
    pointwise,
    pooling,
    reductions,
    scatter,
)

OPERATORS = {
    **arithmetic.HANDLERS,
    **convolution.HANDLERS,
    **gates.HANDLERS,
    **indexing.HANDLERS,
    **layout.HANDLERS,
    **matrix.HANDLERS,
    **ordering.HANDLERS,
    **pointwise.HANDLERS,
    **pooling.HANDLERS,
    **reductions.HANDLERS,
    **scatter.HANDLERS,
}

__all__ = ["OPERATORS"]
