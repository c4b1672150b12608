"""Copies of a user's network, so that nothing that is done to one reaches the original."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, fx, nn
from torch.nn.utils.parametrize import is_parametrized

from headgate.errors import ModelError, first_line

WRAPPERS: tuple[tuple[str, str], ...] = (
    ("DataParallel", "pass its .module"),
    ("DistributedDataParallel", "pass its .module"),
    ("OptimizedModule", "compile the gated network instead"),
    ("ScriptModule", "pass the network it was made from"),
)
"""PyTorch's classes, by name: to import torch.compile's takes two seconds, used or not."""

HOOKS = ("forward", "forward_pre", "backward", "backward_pre")

_OF_A_CACHE = ("cache_clear", "cache_info")


def copied(module: nn.Module) -> nn.Module:
    """A deep copy; a ModelError if a part of ``module`` is a wrapper, or cannot be copied."""
    for path, part in module.named_modules():
        if (reason := _not_to_copy(part)) is not None:
            where = f"its module {path!r}" if path else "it"
            raise ModelError(f"{type(module).__name__} cannot be gated: {where} is {reason}")
    try:
        return deep_copy(module)
    except Exception as error:  # whatever the network's own attributes raise
        raise ModelError(
            f"{type(module).__name__} cannot be copied: {first_line(error)}"
        ) from error


def deep_copy(module: nn.Module) -> nn.Module:
    """A deep copy of any module, computed tensors in it detached; raises what its parts raise."""
    # torch copies only tensors that a user made: not the weight that a weight norm has computed.
    made = {
        id(tensor): tensor.detach().clone()
        for part in module.modules()
        for tensor in _tensors(part.__dict__)
        if tensor.grad_fn is not None
    }
    return copy.deepcopy(module, made)


def _not_to_copy(part: nn.Module) -> str | None:
    theirs = {kind.__name__ for kind in type(part).__mro__ if kind.__module__.startswith("torch.")}
    for wrapper, way_out in WRAPPERS:
        if wrapper in theirs:
            return f"wrapped in {wrapper}; {way_out}"
    if isinstance(part, nn.modules.lazy.LazyModuleMixin) and part.has_uninitialized_params():
        return "not initialised; call it once"
    return None


def hooks_of(part: nn.Module) -> str:
    """What else runs when ``part`` does, in words; empty if nothing does."""
    kinds = [kind for kind in HOOKS if getattr(part, f"_{kind}_hooks")]
    return " and ".join(f"a {kind.replace('_', ' ')} hook" for kind in kinds)


def without_hooks(module: nn.Module) -> dict[nn.Module, str]:
    """Takes the hooks off all modules, in place; says which hooks those had that had some."""
    found = {part: hooks for part in module.modules() if (hooks := hooks_of(part))}
    for part in found:
        for kind in HOOKS:
            getattr(part, f"_{kind}_hooks").clear()
    return found


def computes_its_own(part: nn.Module, stock: type[nn.Module], hooks: str) -> str | None:
    """Why ``part`` is not simply a ``stock`` layer whose weights are its parameters."""
    if is_parametrized(part):
        return "its weight is computed by a parametrization; remove it first"
    if not {"weight", "bias"} <= set(part._parameters):
        return f"its weight is computed by {hooks or 'its class'}; remove that first"
    if hooks:
        return f"it has {hooks}"
    methods = ("forward", "_conv_forward")
    if any(getattr(type(part), m, None) is not getattr(stock, m, None) for m in methods):
        return f"its class {type(part).__name__} computes something of its own"
    if not vars(part).keys().isdisjoint(methods):
        return "its forward was replaced by one of its own"
    return None


@contextmanager
def shared_state_kept(module: nn.Module) -> Iterator[None]:
    """Restores, at the end, what copies of a network share: in its classes, and in their files."""
    own = {kind for part in module.modules() for kind in type(part).__mro__}
    own = {kind for kind in own if kind.__module__.split(".")[0] not in ("torch", "builtins")}
    files = {sys.modules[kind.__module__] for kind in own if kind.__module__ in sys.modules}
    before = {holder: dict(vars(holder)) for holder in (*own, *files)}
    contents = [
        (value, copy.copy(value))
        for names in before.values()
        for name, value in names.items()
        if type(value) in (dict, list, set) and not name.startswith("__")
    ]
    try:
        yield
    finally:
        for holder, names in before.items():
            _restore_names(holder, names)
        for value, content in contents:
            if not _same_content(value, content):
                value.clear()
                value.extend(content) if isinstance(value, list) else value.update(content)


def _restore_names(holder: Any, names: dict[str, Any]) -> None:
    for name, value in list(vars(holder).items()):
        if not isinstance(value, Tensor | fx.Proxy):
            # Looked up without asking the object: stand-ins for absent packages raise.
            if all(inspect.getattr_static(value, one, None) for one in _OF_A_CACHE):
                value.cache_clear()
        elif name not in names:
            delattr(holder, name)
        elif names[name] is not value:
            setattr(holder, name, names[name])


def _same_content(a: Any, b: Any) -> bool:
    if len(a) != len(b):
        return False
    if isinstance(a, dict):
        return all(key in b and b[key] is value for key, value in a.items())
    return all(x is y for x, y in zip(a, b, strict=True)) if isinstance(a, list) else a == b


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
