"""Graphs of ``torch.export`` that are run operator by operator, and what their nodes stand for."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from headgate.errors import ModelError
from headgate.train.copying import first_line


def exported(
    module: nn.Module, example: Tensor, consequence: str, *, any_batch: bool = False
) -> fx.GraphModule:
    """The graph of ``module`` as it is for inputs of the shape of ``example``.

    Its parameters and buffers are those of ``module``. With ``any_batch`` it takes any number of
    images from two on, as ``example`` has to.

    Raises:
        ModelError: ``torch.export`` cannot take it; ``consequence`` says what is impossible then.
    """
    try:
        free = ({0: torch.export.Dim.DYNAMIC},) if any_batch else None
        return torch.export.export(module, (example,), dynamic_shapes=free).module()
    except Exception as error:  # the exporter's own errors have no common root
        raise ModelError(
            f"{type(module).__name__} cannot be exported, so {consequence}: {first_line(error)}"
        ) from error


def operator_name(node: fx.Node) -> str:
    """The name of what a node calls, without its overload: "aten.conv2d"."""
    return str(getattr(node.target, "overloadpacket", getattr(node.target, "__name__", "")))


def module_path(node: fx.Node) -> str:
    """The path of the module that runs the node, "" for the network itself."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]).split("@")[0] if stack else ""
