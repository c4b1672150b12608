"""The copy of a user's network that the compiler works on; the network itself stays as it is."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.eval_frame import OptimizedModule
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from headgate.errors import CompileError, UsageError, why
from headgate.train.copying import deep_copy


def prepare(module: nn.Module) -> nn.Module:
    """A copy of ``module`` on the CPU, without what torch.compile or DataParallel put around it.

    Raises:
        UsageError: it is no ``nn.Module``.
        CompileError: it is a ScriptModule, in training mode, not of float32, without values, or
            cannot be copied.
    """
    if not isinstance(module, nn.Module):
        raise UsageError(f"compile_module takes an nn.Module, not {_article(type(module))}.")
    module = unwrap(module)
    _check(module)
    try:
        own = deep_copy(module).cpu()
    except Exception as error:  # whatever the network's own attributes raise
        raise CompileError(
            f"{type(module).__name__} cannot be copied, which compiling starts with: {why(error)}"
        ) from error
    for part in list(own.modules()):
        part._compiled_call_impl = None
        part.training = False  # which a class that makes its copies anew forgets
        for name, child in part._modules.items():
            part._modules[name] = None if child is None else unwrap(child)
    return own


def unwrap(module: nn.Module) -> nn.Module:
    """The network inside torch.compile's, DataParallel's and DistributedDataParallel's modules."""
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while isinstance(module, (OptimizedModule, *parallel)):
        module = module._orig_mod if isinstance(module, OptimizedModule) else module.module
    return module


def reshaped_call(
    module: nn.Module, call: Callable[[Callable[..., Any], tuple[Tensor, ...]], Any]
) -> nn.Module:
    """``module``, from now on called with tensors alone: ``call(forward, tensors)``.

    The class changes, so that modules and parameters keep their paths.
    """
    kind = type(module)
    own = module.__dict__.pop("forward", None)

    def forward(self: nn.Module, *tensors: Tensor) -> Any:
        return call(own or kind.forward.__get__(self), tensors)

    changed = types.new_class(kind.__name__, (kind,), {}, lambda body: body.update(forward=forward))
    object.__setattr__(module, "__class__", changed)
    return module


def _check(module: nn.Module) -> None:
    for path, child in module.named_modules():
        where = f"Module {path!r}" if path else "The network"
        if isinstance(child, torch.jit.ScriptModule):
            raise CompileError(
                f"{where} is a ScriptModule; give the nn.Module that it was made from."
            )
        if child.training:
            raise CompileError(f"{where} is in training mode; call eval() on the network first.")
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if isinstance(tensor, UninitializedParameter | UninitializedBuffer) or tensor.is_meta:
            raise CompileError(
                f"{name!r} has no values yet; load the network's weights, or run it once."
            )
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise CompileError(
                f"{name!r} is of type {kind}; headgate compiles float32, call module.float() first."
            )


def _article(kind: type) -> str:
    return f"{'an' if kind.__name__[0] in 'aeiouAEIOU' else 'a'} {kind.__name__}"
