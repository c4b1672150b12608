"""Copies of a user's network, so that nothing that is done to one reaches the original."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from headgate.errors import ModelError

WRAPPERS: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.DataParallel, "pass its .module"),
    (nn.parallel.DistributedDataParallel, "pass its .module"),
    (torch._dynamo.OptimizedModule, "compile the gated network instead"),
    (torch.jit.ScriptModule, "pass the network it was made from"),
)

HOOKS = {
    "_forward_hooks": "forward",
    "_forward_pre_hooks": "forward pre",
    "_backward_hooks": "backward",
    "_backward_pre_hooks": "backward pre",
}


def copied(module: nn.Module) -> nn.Module:
    """A deep copy, without the autograd graph that tensors in it may belong to.

    Raises:
        ModelError: ``module`` or a part of it is a wrapper around a network, or cannot be copied.
    """
    for path, part in module.named_modules():
        if (reason := _not_to_copy(part)) is not None:
            where = f"its module {path!r}" if path else "it"
            raise ModelError(f"{type(module).__name__} cannot be gated: {where} is {reason}")
    # torch copies only tensors that a user made: not the weight that a weight norm has computed.
    made = {
        id(tensor): tensor.detach().clone()
        for part in module.modules()
        for tensor in _tensors(part.__dict__)
        if tensor.grad_fn is not None
    }
    try:
        return copy.deepcopy(module, made)
    except Exception as error:  # whatever the network's own attributes raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"{type(module).__name__} cannot be copied: {lines[0]}") from error


def _not_to_copy(part: nn.Module) -> str | None:
    for wrapper, way_out in WRAPPERS:
        if isinstance(part, wrapper):
            return f"wrapped in {wrapper.__name__}; {way_out}"
    if isinstance(part, nn.modules.lazy.LazyModuleMixin) and part.has_uninitialized_params():
        return "not initialised; call it once"
    return None


def without_hooks(module: nn.Module) -> dict[nn.Module, list[str]]:
    """Takes the hooks off all modules, in place: which had some, and of which kinds."""
    found: dict[nn.Module, list[str]] = {}
    for part in module.modules():
        for attribute, kind in HOOKS.items():
            if getattr(part, attribute):
                found.setdefault(part, []).append(kind)
                getattr(part, attribute).clear()
    return found


def replace_module(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Puts ``new`` where ``old`` is, under all names it is registered by, in place."""
    for part in network.modules():
        for name, child in part._modules.items():
            if child is old:
                part._modules[name] = new


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in containers of containers."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from _tensors(item)
