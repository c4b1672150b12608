"""Finds the layer where numbers stop being finite."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from headgate.errors import TrainingError


def first_bad_parameter(module: nn.Module) -> str | None:
    """Path of the first layer with a parameter or buffer that has NaN or Inf, if any."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return name
    return None


def first_bad_gradient(module: nn.Module) -> str | None:
    """Name of the first parameter whose gradient has NaN or Inf, if any."""
    for name, parameter in module.named_parameters():
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            return name
    return None


@torch.no_grad()
def first_bad_output(module: nn.Module, batch: Tensor) -> str | None:
    """Path of the first layer, in order of execution, that gives NaN or Inf for ``batch``.

    Batch-norm statistics move, so this is for a run that is about to stop.
    """
    found: list[str] = []

    def watch(name: str) -> object:
        def hook(layer: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and not found and not bool(output.isfinite().all()):
                found.append(name)

        return hook

    hooks = [
        layer.register_forward_hook(watch(name)) for name, layer in module.named_modules() if name
    ]
    try:
        module(batch.clone())  # forward() may change its input
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def stop(module: nn.Module, batch: Tensor, when: str, kept: str) -> TrainingError:
    """The error for a loss or gradient that is not finite, naming the layer it came from.

    Args:
        module: the network, with the gradients of the failed step.
        batch: the network's input in that step.
        when: epoch and batch, for the message.
        kept: where the last good state lies, for the message.
    """
    parameter = first_bad_parameter(module)
    if parameter is not None:
        where = f"parameter {parameter}"
    else:
        layer = first_bad_output(module, batch)
        gradient = first_bad_gradient(module)
        if layer is not None:
            where = f"the output of layer {layer}"
        elif gradient is not None:
            where = f"the gradient of {gradient}"
        else:
            where = "the loss"
    return TrainingError(
        f"{where} is not finite in {when}; {kept}. Try a lower learning_rate, or clip_norm = 1.0"
    )
