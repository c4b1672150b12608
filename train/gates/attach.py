"""Putting gates on a network, and moving their density."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatchcase
from inspect import signature
from typing import Any

from torch import Tensor, nn

from headgate.errors import ModelError, UsageError, suggest
from headgate.train.gates.cgnet import CGNetConv2d
from headgate.train.gates.dcp import DCPConv2d
from headgate.train.gates.fbs import FBSConv2d
from headgate.train.gates.find import Convolution, find_convolutions
from headgate.train.gates.layer import GatedLayer, Norm, gates

METHODS: dict[str, type[GatedLayer]] = {"cgnet": CGNetConv2d, "dcp": DCPConv2d, "fbs": FBSConv2d}

BLOCK_INNER = "block-inner"

# What gate() gives to every method itself; the rest of its constructor are the method's options.
GIVEN = {"self", "conv", "norm", "name", "density"}


def gate(
    module: nn.Module,
    method: str = "fbs",
    density: float | None = None,
    layers: str | Iterable[str] | None = None,
    *,
    example_input: Tensor | None = None,
    **options: Any,
) -> nn.Module:
    """A copy of ``module`` whose convolutions compute only the channels that the input needs.

    Every gated convolution and the batch norm behind it become one gated layer in the
    convolution's place, and an identity in the batch norm's. At density 1 the copy of a
    pretrained network is close to the original, see :class:`GatedConv2d`. The copy's state dict
    is plain: gating a fresh network in the same way and loading it restores the copy.

    Args:
        module: a network with convolutions followed by batch norm; it is not changed.
        method: "fbs" or "dcp" for whole channels, "cgnet" for single pixels of them.
        density: the fraction of channels that stay, in (0, 1]; by default 0.5, or 1 where the
            method takes none.
        layers: which convolutions: None for every one that can be gated; patterns of module
            paths (``"stage?.*.conv1"``); or "block-inner" for those whose result goes to exactly
            one other convolution, so that residual sums stay dense and every skipped channel
            saves on both sides.
        example_input: (N, C, H, W), needed only by networks that torch.fx cannot trace.
        **options: the method's own, see :class:`FBSConv2d`, :class:`DCPConv2d` and
            :class:`CGNetConv2d`.

    Raises:
        UsageError: an unknown method or option, a density outside (0, 1], a pattern that matches
            no convolution.
        ModelError: nothing to gate, a convolution asked for that cannot be gated, or a network
            that cannot be traced.

    Example:
        >>> gated = gate(create_model("resnet20"), density=0.5, layers="block-inner")
    """
    if method not in METHODS:
        raise UsageError(f"unknown gating method {method!r}.{suggest(method, METHODS)}")
    layer = METHODS[method]
    known = set(signature(layer.__init__).parameters) - GIVEN
    for option in options:
        if option not in known:
            raise UsageError(f"method {method!r} has no option {option!r}.{suggest(option, known)}")
    if density is None:
        density = 0.5 if layer.takes_density else 1.0
    found = {
        path: c if c.obstacle else replace(c, obstacle=_obstacle(module, path, layer, options))
        for path, c in find_convolutions(module, example_input).items()
    }
    chosen = _choose(found, layers, type(module).__name__)
    gated = copy.deepcopy(module)
    for convolution in chosen:
        path, norm_path = convolution.path, convolution.norm
        assert norm_path is not None
        conv, norm = gated.get_submodule(path), gated.get_submodule(norm_path)
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, Norm)
        build: Any = layer  # each method has options of its own
        gated.set_submodule(path, build(conv, norm, path, density, **options))
        gated.set_submodule(norm_path, nn.Identity().train(norm.training))
    return gated


def _obstacle(
    module: nn.Module, path: str, layer: type[GatedLayer], options: dict[str, Any]
) -> str | None:
    conv = module.get_submodule(path)
    assert isinstance(conv, nn.Conv2d)
    return layer.obstacle(conv, options)


def _choose(
    found: dict[str, Convolution], layers: str | Iterable[str] | None, network: str
) -> list[Convolution]:
    possible = [c for c in found.values() if c.obstacle is None]
    if not possible:
        reasons = "; ".join(f"{c.path}: {c.obstacle}" for c in list(found.values())[:3])
        raise ModelError(
            f"{network} has no convolution that can be gated, one that is followed by a batch "
            f"norm ({reasons or 'it has no convolution without a gate'})"
        )
    if layers is None:
        return possible
    if layers == BLOCK_INNER:
        inner = [c for c in possible if c.inner]
        if not inner:
            raise ModelError(
                f"{network} has no convolution whose result goes to one other convolution only; "
                "name the layers to gate, or leave layers out to gate all"
            )
        return inner
    patterns = [layers] if isinstance(layers, str) else list(layers)
    matches = {p: [c for c in found.values() if fnmatchcase(c.path, p)] for p in patterns}
    for pattern, matched in matches.items():
        if not matched:
            hint = suggest(pattern, found)
            raise UsageError(f"layers: {pattern!r} matches no convolution of {network}.{hint}")
        if all(c.obstacle for c in matched):
            first = matched[0]
            raise ModelError(f"layer {first.path!r} cannot be gated: {first.obstacle}")
    asked = {c.path for matched in matches.values() for c in matched}
    return [c for c in possible if c.path in asked]


def set_density(module: nn.Module, density: float, layers: str = "*") -> None:
    """Let ``ceil(C * density)`` channels of every gated layer stay from now on, in place.

    Args:
        module: a network from :func:`gate`.
        density: in (0, 1].
        layers: pattern of the module paths to set, all by default.

    Raises:
        UsageError: a density outside (0, 1], or a pattern that matches no gated layer.
    """
    gated = gates(module)
    matched = [layer for path, layer in gated.items() if fnmatchcase(path, layers)]
    if not matched:
        raise UsageError(f"set_density: {layers!r} matches no gated layer.{suggest(layers, gated)}")
    for layer in matched:
        layer.set_density(density)
