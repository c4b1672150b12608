"""Finds the layer where numbers stop being finite."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from headgate.errors import TrainingError


def first_bad_parameter(module: nn.Module) -> str | None:
    """Name of the first parameter or buffer with NaN or Inf, if any."""
    return _first_bad(module.state_dict().items())


def _first_bad(tensors: Iterable[tuple[str, Tensor | None]]) -> str | None:
    for name, tensor in tensors:
        if tensor is not None and not bool(tensor.isfinite().all()):
            return name
    return None


@torch.no_grad()
def first_bad_output(module: nn.Module, batch: Tensor) -> str | None:
    """Path of the first layer, in order of execution, that gives NaN or Inf for ``batch``.

    Batch-norm statistics move, so this is for a run that is about to stop.
    """
    paths = {layer: path for path, layer in module.named_modules() if path}
    found: list[str] = []

    def watch(layer: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and not bool(output.isfinite().all()):
            found.append(paths[layer])

    hooks = [layer.register_forward_hook(watch) for layer in paths]
    try:
        module(batch.clone())  # forward() may change its input
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def stop(module: nn.Module, batch: Tensor, when: str, kept: str) -> TrainingError:
    """The error for a loss or gradient that is not finite, naming the layer it came from.

    Args:
        module: the network, with the gradients of the failed step, whose input was ``batch``.
        when: epoch and batch, for the message.
        kept: where the last good state lies, for the message.
    """
    gradients = ((name, parameter.grad) for name, parameter in module.named_parameters())
    if parameter := first_bad_parameter(module):
        where = f"parameter {parameter}"
    elif layer := first_bad_output(module, batch):
        where = f"the output of layer {layer}"
    elif gradient := _first_bad(gradients):
        where = f"the gradient of {gradient}"
    else:
        where = "the loss"
    return TrainingError(
        f"{where} is not finite in {when}; {kept}. Try a lower learning_rate, or clip_norm = 1.0"
    )
