"""Putting gates on a network, and moving their density."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatchcase
from inspect import signature
from typing import Any

import torch
from torch import nn

from headgate.errors import ModelError, UsageError, suggest
from headgate.train.copying import copied, replace_module, shared_state_kept, without_hooks
from headgate.train.gates.base import GatedConv2d
from headgate.train.gates.cgnet import CGNetConv2d
from headgate.train.gates.dcp import DCPConv2d
from headgate.train.gates.fbs import FBSConv2d
from headgate.train.gates.find import Convolution, read_convolutions
from headgate.train.gates.following import FollowingConv2d
from headgate.train.gates.layer import Conv, GatedLayer, gates
from headgate.train.gates.norms import BatchNorm, Norm, fold_frozen, remainder
from headgate.train.gates.trace import Example, Trace, tensors_of, trace
from headgate.train.tracing import first_change

METHODS: dict[str, type[GatedLayer]] = {"cgnet": CGNetConv2d, "dcp": DCPConv2d, "fbs": FBSConv2d}

BLOCK_INNER = "block-inner"

# Arguments that gate() passes to every method; the others of its constructor are its options.
GIVEN = {"self", "conv", "norm", "name", "density"}


def gate(
    module: nn.Module,
    method: str = "fbs",
    density: float | None = None,
    layers: str | Iterable[str] | None = None,
    *,
    example_input: Example = None,
    **options: Any,
) -> nn.Module:
    """A copy of ``module`` whose convolutions compute only the channels that the input needs.

    Every gated convolution and the norm behind it become one gated layer in the convolution's
    place. Depthwise convolutions follow the gate in front of them.

    Args:
        module: a network with convolutions, of one or two dimensions; it is not changed.
        method: "fbs" or "dcp" for whole channels, "cgnet" for single pixels of them.
        density: the fraction of channels that are active, in (0, 1]; by default 0.5, or 1 where the
            method takes none.
        layers: which convolutions: None for all that can be gated, except those without a norm
            whose result goes into a sum or out of the network as it is, or is one pixel; patterns
            of module paths (``"stage?.*.conv1"``); or "block-inner" for those whose result goes to
            exactly one other convolution. Depthwise convolutions need not be named.
        example_input: (N, C, H, W), or several inputs in a tuple; needed only by networks that
            torch.fx cannot trace.
        **options: those of :class:`FBSConv2d`, :class:`DCPConv2d` or :class:`CGNetConv2d`.

    Raises:
        UsageError: an unknown method or option, a density outside (0, 1], a pattern that matches
            no convolution.
        ModelError: nothing to gate, a convolution asked for that cannot be gated, a network that
            cannot be traced, is wrapped in another, or does not run its layers by their names.

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
    traced = trace(module, example_input)
    found = {
        path: c if c.obstacle else replace(c, obstacle=_obstacle(module, c, layer, options))
        for path, c in read_convolutions(traced, module).items()
    }
    leaders = set(gates(module))
    chosen = _choose(found, leaders, layers, type(module).__name__)
    gated = copied(module)
    for convolution in chosen:
        _replace(gated, convolution, layer, density, options)
    _check_that_gates_run(traced, gated, [c.path for c in chosen], example_input)
    return gated


def _obstacle(
    module: nn.Module, convolution: Convolution, layer: type[GatedLayer], options: dict[str, Any]
) -> str | None:
    conv: Any = module.get_submodule(convolution.path)
    norm = None if convolution.norm is None else module.get_submodule(convolution.norm)
    return layer.obstacle(conv, norm, options)


def _replace(
    gated: nn.Module,
    convolution: Convolution,
    layer: type[GatedLayer],
    density: float,
    options: dict[str, Any],
) -> None:
    path = convolution.path
    old: Any = gated.get_submodule(path)
    conv: Conv = old
    norm = None if convolution.norm is None else gated.get_submodule(convolution.norm)
    if norm is not None:
        replace_module(gated, norm, remainder(norm))
        if not isinstance(norm, Norm):
            conv, norm = fold_frozen(conv, norm), None
    if convolution.follows is None:
        build: Any = layer  # each method has options of its own
        new = build(conv, norm, path, density, **options)
    else:
        leader = gated.get_submodule(convolution.follows)
        assert isinstance(leader, GatedConv2d) and (norm is None or isinstance(norm, BatchNorm))
        if leader.straight_through:
            raise ModelError(
                f"straight_through: {path!r} is depthwise and follows the gate of "
                f"{convolution.follows!r}, so no gradient comes back from what is closed; leave "
                "the option out, or name layers that none follows"
            )
        new = FollowingConv2d(conv, norm, path, convolution.follows, leader.handover)
    replace_module(gated, old, new)


def _check_that_gates_run(
    traced: Trace, gated: nn.Module, paths: list[str], example_input: Example
) -> None:
    """Refuses a network whose code reaches layers past their names, so that gates would not run."""
    network = f"{type(gated).__name__} cannot be gated"
    if not traced.symbolic:
        assert example_input is not None
        missing = set(paths) - _paths_run(gated, paths, example_input)
        if missing:
            raise ModelError(f"{network}: layer {min(missing)!r} would not run")
        return
    try:
        after = trace(gated, example_input)
    except ModelError as error:
        raise ModelError(f"{network}: its code does not take a gated layer: {error}") from error
    was, now = ([(n.op, str(n.target)) for n in t.graph.nodes] for t in (traced, after))
    if change := first_change(was, now):
        raise ModelError(f"{network}: with gated layers its code does something else at {change!r}")


def _paths_run(gated: nn.Module, paths: list[str], example_input: Any) -> set[str]:
    network = copied(gated).eval()
    without_hooks(network)
    found: set[str] = set()
    for path in paths:
        network.get_submodule(path).register_forward_hook(lambda *_, path=path: found.add(path))
    with torch.no_grad(), shared_state_kept(network):
        network(*tensors_of(example_input))
    return found


def _choose(
    found: dict[str, Convolution],
    gated: set[str],
    layers: str | Iterable[str] | None,
    network: str,
) -> list[Convolution]:
    """The convolutions to replace; ``gated`` are the layers that have a gate already."""
    possible = {path: c for path, c in found.items() if c.obstacle is None}
    leaders = {path: c for path, c in possible.items() if c.follows is None}
    if layers is None:
        asked = {path for path, c in leaders.items() if c.usual}
        following = gated
    elif layers == BLOCK_INNER:
        asked = {path for path, c in leaders.items() if c.usual and c.inner}
        following = gated
    else:
        asked = _asked(found, gated, layers, network)
        following = gated & {possible[path].follows for path in asked if path in possible}
        asked &= set(leaders)
    chosen = [c for c in possible.values() if c.path in asked or c.follows in asked | following]
    if chosen:
        return chosen
    if layers == BLOCK_INNER and leaders:
        raise ModelError(
            f"{network} has no convolution whose result goes to one other convolution only; "
            "name the layers to gate, or leave layers out to gate all"
        )
    if leaders:
        raise ModelError(
            f"{network} has no convolution that gets a gate unasked (with a norm, or between "
            f"other layers, and of more than a pixel): name the layers to gate, for example "
            f"{next(iter(leaders))!r}"
        )
    reasons = "; ".join(f"{c.path}: {c.obstacle}" for c in list(found.values())[:3])
    raise ModelError(
        f"{network} has no convolution that can be gated "
        f"({reasons or 'it has no convolution without a gate'})"
    )


def _asked(
    found: dict[str, Convolution], gated: set[str], layers: str | Iterable[str], network: str
) -> set[str]:
    """The convolutions that match the patterns, each of which must match one that can be gated."""
    patterns = [layers] if isinstance(layers, str) else list(layers)
    matches = {p: [c for c in found.values() if fnmatchcase(c.path, p)] for p in patterns}
    asked = {c.path for matched in matches.values() for c in matched}
    for pattern, matched in matches.items():
        if not matched:
            hint = suggest(pattern, found)
            raise UsageError(f"layers: {pattern!r} matches no convolution of {network}.{hint}")
        reasons = {c.path: c.obstacle or _without_leader(c, asked | gated) for c in matched}
        if all(reasons.values()):
            path, reason = next(iter(reasons.items()))
            raise ModelError(f"layer {path!r} cannot be gated: {reason}")
    return asked


def _without_leader(convolution: Convolution, gated: set[str]) -> str | None:
    if convolution.follows is None or convolution.follows in gated:
        return None
    return (
        f"it is depthwise and follows the gate of {convolution.follows!r}, which is not asked for"
    )


def set_density(module: nn.Module, density: float, layers: str = "*") -> None:
    """Make ``ceil(C * density)`` channels of every gated layer active from now on, in place.

    ``layers`` is a pattern of the module paths to set.

    Raises:
        UsageError: a density outside (0, 1], or a pattern that matches no gated layer.
    """
    gated = gates(module)
    matched = [layer for path, layer in gated.items() if fnmatchcase(path, layers)]
    if not matched:
        raise UsageError(f"set_density: {layers!r} matches no gated layer.{suggest(layers, gated)}")
    for layer in matched:
        layer.set_density(density)
