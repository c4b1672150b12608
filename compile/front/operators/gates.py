"""The operators of our own: gates, and the places of pruned channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from headgate.compile.front.graph import Value
from headgate.compile.front.operators.convolution import each_image
from headgate.compile.front.reading import Call, numbers


def _constants(call: Call, *names: str) -> list[np.ndarray]:
    """Weights, which are constant: they come from the layer's parameters."""
    found = [call[name] for name in names]
    for name, value in zip(names, found, strict=True):
        if value.data is None:
            raise call.refused(f"as its {name} depends on the input")
    return [value.data for value in found]


def _geometry(call: Call) -> dict[str, Any]:
    stride, padding, dilation = (numbers(call[n], 2) for n in ("stride", "padding", "dilation"))
    groups = int(call["groups"]) if call.has("groups") else 1
    sides = (*padding, *padding)
    return {"stride": stride, "padding": sides, "dilation": dilation, "groups": groups}


def _gated_conv2d(call: Call) -> Value:
    """Behind a gate of its own, or (without a shift) following the gate in front."""
    weight, scale, bias = _constants(call, "weight", "scale", "bias")
    follows = not call.has("shift")
    shift = np.zeros(len(weight), np.float32) if follows else _constants(call, "shift")[0]
    return each_image(
        call,
        "gated_conv2d",
        [call["x"], call["gate"]],
        weight=weight * scale.reshape(-1, 1, 1, 1),
        bias=bias.reshape(-1),
        shift=shift.reshape(-1),
        **({"follows": True} if follows else {}),
        **_geometry(call),
    )


def _pixel_gated_conv2d(call: Call) -> Value:
    names = ("gate_scale", "gate_bias", "base_scale", "base_bias", "full_scale", "full_bias")
    (weight,), vectors = _constants(call, "weight"), _constants(call, *names)
    return each_image(
        call,
        "pixel_gated_conv2d",
        [call["x"]],
        weight=weight,
        **{name: v.reshape(-1) for name, v in zip(names, vectors, strict=True)},
        partitions=int(call["partitions"]),
        grouped=bool(call["grouped"]),
        shuffle=bool(call["shuffle"]),
        block=tuple(int(n) for n in call["block"]),
        **_geometry(call),
    )


def _place_channels(call: Call) -> Value:
    (constant,) = _constants(call, "constant")
    channels = tuple(int(n) for n in call["channels"])
    return each_image(
        call, "place_channels", [call["x"]], constant=constant.reshape(-1), channels=channels
    )


def _keep_top_k(call: Call) -> Value:
    return each_image(call, "keep_top_k", [call["saliency"]], k=int(call["k"]))


HANDLERS: dict[str, Callable[[Call], Any]] = {
    "headgate.following_conv2d.default": _gated_conv2d,
    "headgate.gated_conv2d.default": _gated_conv2d,
    "headgate.keep_top_k.default": _keep_top_k,
    "headgate.pixel_gated_conv2d.default": _pixel_gated_conv2d,
    "headgate.place_channels.default": _place_channels,
}
