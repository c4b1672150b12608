"""Finding the convolutions of a network that can be gated, by tracing it.

A convolution can be gated when one batch norm is all that reads it: the gate takes the place of
that batch norm's factor. The trace is ``torch.fx``'s, which needs no input; where it fails
(control flow that depends on values) ``torch.export`` with an example input is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.parametrize import is_parametrized

from headgate.errors import ModelError
from headgate.train.evaluating import evaluating
from headgate.train.gates.layer import GatedLayer, Norm, symmetric_padding

# What may stand between a convolution and its reader without mixing channels (names of modules,
# functions and operators alike, in lower case without underscores).
CHANNELWISE = {
    *("relu", "relu6", "leakyrelu", "prelu", "elu", "gelu", "silu", "mish", "tanh", "sigmoid"),
    *("hardtanh", "hardswish", "hardsigmoid", "identity", "clone", "contiguous"),
    *("dropout", "dropout2d", "alphadropout", "featuredropout"),
    *("maxpool2d", "avgpool2d", "adaptiveavgpool2d", "adaptivemaxpool2d"),
}


@dataclass(frozen=True)
class Convolution:
    """A convolution found in a network.

    ``norm`` is the module path of the batch norm behind it; ``obstacle`` says why it cannot be
    gated, None if it can; ``inner`` is true when its result reaches exactly one convolution and
    nothing else, as in the middle of a residual block.
    """

    path: str
    norm: str | None
    obstacle: str | None
    inner: bool


@dataclass(frozen=True)
class Step:
    """What a node of a traced graph does: kind is "conv", "norm", "channelwise" or "other"."""

    kind: str
    path: str = ""


def find_convolutions(
    module: nn.Module, example_input: Tensor | None = None
) -> dict[str, Convolution]:
    """The two-dimensional convolutions of ``module`` by module path, in order of execution.

    Layers that are gated already are not among them.

    Args:
        module: any network; it is not changed.
        example_input: (N, C, H, W), used only if the network cannot be traced without an input.

    Raises:
        ModelError: the network cannot be traced.
    """
    graph, read = _trace(module, example_input)
    steps = {node: read(node) for node in graph.nodes}
    calls: dict[str, list[fx.Node]] = {}
    for node, step in steps.items():
        if step.kind in ("conv", "norm"):
            calls.setdefault(step.path, []).append(node)
    found = {}
    for path, nodes in calls.items():
        if steps[nodes[0]].kind == "conv" and not isinstance(
            module.get_submodule(path), GatedLayer
        ):
            norm = _sole_reader(nodes[0], steps, "norm")
            norm_path = None if norm is None else steps[norm].path
            obstacle = _obstacle(module, path, norm_path, calls)
            inner = norm is not None and _reaches_one_convolution(norm, steps)
            found[path] = Convolution(path, norm_path, obstacle, inner)
    return found


def _sole_reader(node: fx.Node, steps: dict[fx.Node, Step], kind: str) -> fx.Node | None:
    readers = list(node.users)
    return readers[0] if len(readers) == 1 and steps[readers[0]].kind == kind else None


def _reaches_one_convolution(node: fx.Node, steps: dict[fx.Node, Step]) -> bool:
    while (following := _sole_reader(node, steps, "channelwise")) is not None:
        node = following
    return _sole_reader(node, steps, "conv") is not None


def _obstacle(
    module: nn.Module, path: str, norm_path: str | None, calls: dict[str, list[fx.Node]]
) -> str | None:
    if len(calls[path]) > 1 or (norm_path is not None and len(calls[norm_path]) > 1):
        return "it, or the batch norm behind it, is used more than once"
    if norm_path is None:
        return "its result is not read by a batch norm module alone"
    conv, norm = module.get_submodule(path), module.get_submodule(norm_path)
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, Norm)
    if norm.running_mean is None:
        return "the batch norm behind it keeps no running statistics"
    if is_parametrized(conv) or is_parametrized(norm):
        return "its weight is computed by a parametrization"
    if type(conv).forward is not nn.Conv2d.forward or (
        type(conv)._conv_forward is not nn.Conv2d._conv_forward
    ):
        return f"its class {type(conv).__name__} computes something of its own"
    if conv.padding_mode != "zeros":
        return f"its padding mode is {conv.padding_mode!r}, not 'zeros'"
    try:
        symmetric_padding(conv)
    except ModelError as error:
        return str(error)
    return None


def _trace(
    module: nn.Module, example_input: Tensor | None
) -> tuple[fx.Graph, Callable[[fx.Node], Step]]:
    try:
        graph = _Tracer().trace(module)
    except Exception as error:  # whatever the network's own code raises on a proxy
        if example_input is None:
            raise ModelError(
                f"{type(module).__name__} cannot be traced without an input "
                f"({_first_line(error)}); pass example_input="
            ) from error
        return _export(module, example_input)
    return graph, lambda node: _read_module_call(node, module)


class _Tracer(fx.Tracer):
    """Keeps subclasses of torch's convolution and batch norm whole too."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        whole = nn.Conv2d | Norm | GatedLayer
        return isinstance(m, whole) or super().is_leaf_module(m, module_qualified_name)


def _read_module_call(node: fx.Node, module: nn.Module) -> Step:
    if node.op == "call_module":
        path = str(node.target)
        return _read_module(module.get_submodule(path), path)
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return _read_name(name) if node.op.startswith("call_") else Step("other")


def _read_module(part: nn.Module, path: str) -> Step:
    if isinstance(part, nn.Conv2d | GatedLayer):
        return Step("conv", path)
    if isinstance(part, Norm):
        return Step("norm", path)
    return _read_name(type(part).__name__)


def _read_name(name: str) -> Step:
    channelwise = name.lower().replace("_", "") in CHANNELWISE
    return Step("channelwise" if channelwise else "other")


def _export(module: nn.Module, example_input: Tensor) -> tuple[fx.Graph, Callable[[fx.Node], Step]]:
    try:
        with evaluating(module):
            program = torch.export.export(module, (example_input,))
    except Exception as error:  # the exporter's own errors have no common root
        raise ModelError(
            f"{type(module).__name__} can be traced neither by torch.fx nor by torch.export: "
            f"{_first_line(error)}"
        ) from error
    owners = {
        name: parameter.rpartition(".")[0]
        for name, parameter in {
            **program.graph_signature.inputs_to_parameters,
            **program.graph_signature.inputs_to_buffers,
        }.items()
    }

    def read(node: fx.Node) -> Step:
        if node.op != "call_function":
            return Step("other")
        # An operator knows its module by the weight (or, without one, the statistics) it reads.
        for argument in node.args[1:]:
            path = owners.get(argument.name) if isinstance(argument, fx.Node) else None
            if path is not None:
                return _read_module(module.get_submodule(path), path)
        return _read_name(_operator_name(node.target))

    return program.graph, read


def _operator_name(target: Any) -> str:
    return getattr(getattr(target, "overloadpacket", target), "__name__", "")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
