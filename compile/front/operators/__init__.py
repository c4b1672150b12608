"""The operators that the compiler knows: a handler each, which reads a ``reading.Call``."""

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
