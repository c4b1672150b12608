"""Operations that leave a channel of zeros a channel of zeros, where it is.

They are named as modules, functions and operators alike, in lower case without underscores.
"""

from __future__ import annotations

from typing import Any

from torch import fx, nn

ACTIVATIONS = {
    *("relu", "relu6", "leakyrelu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu"),
    *("mish", "tanh", "hardtanh", "hardswish", "softsign", "softshrink", "hardshrink"),
    *("tanhshrink", "threshold", "clamp", "clip"),
}
KEEPS_ZERO = ACTIVATIONS | {
    *("identity", "clone", "contiguous", "dropout", "dropout1d", "dropout2d", "featuredropout"),
    *("maxpool1d", "maxpool2d", "avgpool1d", "avgpool2d", "adaptiveavgpool1d"),
    *("adaptiveavgpool2d", "adaptivemaxpool1d", "adaptivemaxpool2d"),
    *("upsample", "interpolate", "upsamplenearest2d", "upsamplebilinear2d"),
    *("upsamplingnearest2d", "upsamplingbilinear2d"),
}
# Names whose arguments decide: where each stands, its name and its default.
BOUNDS = {
    "hardtanh": ((1, "min_val", -1.0), (2, "max_val", 1.0)),
    "clamp": ((1, "min", None), (2, "max", None)),
    "clip": ((1, "min", None), (2, "max", None)),
}


def operation(node: fx.Node, part: nn.Module | None) -> str:
    """The name of what a node does; ``part`` is the module it calls, None if it calls none."""
    if part is not None:
        name = type(part).__name__
    elif isinstance(node.target, str):
        name = node.target
    else:
        target = getattr(node.target, "overloadpacket", node.target)
        name = getattr(target, "__name__", "")
    return name.lower().replace("_", "")


def keeps_zero(node: fx.Node, part: nn.Module | None = None) -> bool:
    """Whether a channel of zeros in the node's first tensor is one in its result."""
    name = operation(node, part)
    if name not in KEEPS_ZERO:
        return False
    if name in BOUNDS:
        low, high = (_setting(node, part, *bound) for bound in BOUNDS[name])
        return _at_most(low, 0) and _at_most(0, high)
    if name == "threshold":
        # y = x where x > threshold, else value.
        value = _setting(node, part, 2, "value", None)
        return isinstance(value, int | float) and value == 0
    return True


def _setting(node: fx.Node, part: nn.Module | None, position: int, name: str, default: Any) -> Any:
    if part is not None:
        return getattr(part, name, default)
    if name in node.kwargs:
        return node.kwargs[name]
    return node.args[position] if position < len(node.args) else default


def _at_most(a: Any, b: Any) -> bool:
    """a <= b, where None is no bound and a tensor could be anything."""
    if a is None or b is None:
        return True
    return isinstance(a, int | float) and isinstance(b, int | float) and a <= b
