"""A network's graph, and which of its modules each node runs.

The trace is ``torch.fx``'s, which needs no input; where that fails (control flow that depends on
values) it is ``torch.export``'s with an example input.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from headgate.errors import ModelError, first_line
from headgate.train import tracing
from headgate.train.copying import copied, shared_state_kept, without_hooks
from headgate.train.gates.following import FollowingConv2d
from headgate.train.gates.layer import GatedLayer
from headgate.train.gates.norms import BatchNorm, ImageNorm, Remainder, is_frozen
from headgate.train.gates.zeros import ACTIVATIONS, keeps_zero, operation
from headgate.train.tracing import Tracer, module_path

Hooked = dict[nn.Module, str]
Example = Tensor | Sequence[Tensor] | None

CONVOLUTIONS = nn.Conv1d | nn.Conv2d | GatedLayer | FollowingConv2d
WHOLE = CONVOLUTIONS | BatchNorm | ImageNorm | Remainder

# The operators in an exported graph that are a convolution or norm module's own.
MODULE_OPERATORS = {
    *("conv1d", "conv2d", "batchnorm", "instancenorm", "groupnorm", "gatedconv2d"),
    *("followingconv2d", "pixelgatedconv2d"),
}
MOVING = {
    *("cat", "concat", "chunk", "split", "getitem", "view", "reshape", "flatten", "permute"),
    *("transpose", "pad", "constantpadnd", "pixelshuffle", "pixelunshuffle", "channelshuffle"),
    *("slice", "select", "unsqueeze", "squeeze", "zeropad2d"),
}
SHAPE = {"size", "dim", "ndim", "ndimension", "numel", "shape", "dtype", "device"}
LAYERS = {"linear", "addmm", "batchnorm", "convtranspose1d", "convtranspose2d", "conv2d", "conv1d"}
NORMALISING = {
    *("batchnorm", "instancenorm", "groupnorm", "layernorm", "batchnorm1d", "batchnorm2d"),
    *("instancenorm1d", "instancenorm2d", "rmsnorm", "nativebatchnorm", "nativelayernorm"),
}


@dataclass(frozen=True)
class Step:
    """The role of a node.

    ``kind`` is "conv" or "norm" for the module ``path``; "keeps" for what leaves channels of zeros
    zero; "product"; "shape" for what reads no numbers; or "other". ``name`` is its operation.
    """

    kind: str
    name: str = ""
    path: str = ""

    @property
    def activates(self) -> bool:
        return self.kind == "keeps" and self.name in ACTIVATIONS

    @property
    def pools(self) -> bool:
        """Whether it leaves one pixel."""
        return self.name in ("globalpool", "mean")

    @property
    def moves(self) -> bool:
        """Whether it hands numbers on as they are, elsewhere."""
        return self.name in MOVING

    @property
    def is_layer(self) -> bool:
        """Whether it is a layer that takes any linear combination of what it reads."""
        return self.kind in ("conv", "norm") or self.name in LAYERS

    @property
    def normalises(self) -> bool:
        return self.kind == "norm" or self.name in NORMALISING


@dataclass(frozen=True)
class Trace(tracing.Trace):
    """The graph of a copy in evaluation mode, with the roles of its nodes.

    ``hooked`` are the modules that had hooks, and which; ``symbolic`` says that the trace is
    torch.fx's.
    """

    steps: dict[fx.Node, Step]
    hooked: Hooked
    symbolic: bool


def trace(module: nn.Module, example_input: Example = None) -> Trace:
    """The trace of ``module``, which is not changed.

    Raises:
        ModelError: it cannot be traced, or not without an example input.
    """
    network = copied(module).eval()
    hooked = without_hooks(network)
    try:
        with shared_state_kept(network):
            return _symbolic(network, hooked, example_input)
    except Exception as error:  # whatever the network's own code raises on a proxy
        if example_input is None:
            raise ModelError(
                f"{type(module).__name__} cannot be traced without an input "
                f"({first_line(error)}); pass example_input="
            ) from error
    # The copy may have kept a proxy.
    network = copied(module).eval()
    return _export(network, without_hooks(network), example_input)


def tensors_of(example_input: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    return (example_input,) if isinstance(example_input, Tensor) else tuple(example_input)


def _symbolic(network: nn.Module, hooked: Hooked, example_input: Example) -> Trace:
    if "forward" in network.__dict__:
        raise TypeError("its forward was replaced")
    # Tried before the trace, in which to call a module is to trace it.
    frozen = {part for part in network.modules() if is_frozen(part)}
    tracer = Tracer(lambda m: m in frozen or isinstance(m, WHOLE), hooked, show_layers=True)
    graph = tracer.trace(network, _defaults(network, example_input))

    def read(node: fx.Node) -> Step:
        if node.op != "call_module":
            return _step(node, None, "") if node.op.startswith("call_") else Step("other")
        path = str(node.target)
        part = network.get_submodule(path)
        if part in frozen:
            return Step("norm", "norm", path)
        return _step(node, part, path, hooked)

    steps = {node: read(node) for node in graph.nodes}
    return Trace(network, graph, tracer.read, steps, hooked, True)


def _defaults(network: nn.Module, example_input: Example) -> dict[str, Any]:
    """The arguments of ``forward`` that a call leaves at their default."""
    given = 0 if example_input is None else len(tensors_of(example_input))
    parameters = list(inspect.signature(network.forward).parameters.values())[given:]
    plain = bool | int | float | str | None
    return {
        p.name: p.default
        for p in parameters
        if p.default is not p.empty and isinstance(p.default, plain)
    }


def _step(node: fx.Node, part: nn.Module | None, path: str, hooked: Hooked | None = None) -> Step:
    if isinstance(part, CONVOLUTIONS):
        return Step("conv", "conv", path)
    if isinstance(part, BatchNorm | ImageNorm):
        return Step("norm", "norm", path)
    name = operation(node, part)
    if part is not None and ("forward" in part.__dict__ or part in (hooked or ())):
        return Step("other", name, path)
    if isinstance(part, Remainder):
        return _remainder_step(node, part)
    if name in SHAPE or (name == "getattr" and node.args[1] in SHAPE):
        return Step("shape", name)
    number = len(node.args) > 1 and isinstance(node.args[1], int | float)
    if name in ("mul", "imul") or (name in ("div", "truediv") and number):
        return Step("product", name)
    if name.startswith("adaptive") and _output_size(node, part) == {1}:
        return Step("keeps", "globalpool")
    return Step("keeps" if keeps_zero(node, part) else "other", name)


def _output_size(node: fx.Node, part: nn.Module | None) -> set[Any]:
    size = getattr(part, "output_size", node.kwargs.get("output_size", (node.args[1:] or (0,))[0]))
    return set(size) if isinstance(size, list | tuple) else {size}


def _remainder_step(node: fx.Node, part: Remainder) -> Step:
    names = [operation(node, child) for child in part]
    if not all(keeps_zero(node, child) for child in part):
        return Step("other", "remainder")
    return Step("keeps", next((n for n in names if n in ACTIVATIONS), "identity"))


def _export(network: nn.Module, hooked: Hooked, example_input: Example) -> Trace:
    assert example_input is not None
    hooks = [
        hook
        for part in hooked
        if not isinstance(part, WHOLE)
        for hook in (
            part.register_forward_pre_hook(lambda _, args: _moved(args)),
            part.register_forward_hook(lambda _, args, result: _moved(result)),
        )
    ]
    try:
        with shared_state_kept(network):
            program = torch.export.export(network, tensors_of(example_input), strict=False)
    except Exception as error:  # the exporter's own errors have no common root
        raise ModelError(
            f"{type(network).__name__} can be traced neither by torch.fx nor by torch.export: "
            f"{first_line(error)}"
        ) from error
    for hook in hooks:
        hook.remove()
    owners = {
        **program.graph_signature.inputs_to_parameters,
        **program.graph_signature.inputs_to_buffers,
    }

    def read(node: fx.Node) -> Step:
        if node.op != "call_function":
            return Step("other")
        path = module_path(node)
        part = network.get_submodule(path)
        own = isinstance(part, WHOLE) and operation(node, None) in MODULE_OPERATORS
        return _step(node, part if own else None, path if own else "")

    steps = {node: read(node) for node in program.graph.nodes}
    found = Trace(network, program.graph, set(), steps, hooked, False)
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in owners:
            path, _, name = owners[node.name].rpartition(".")
            part = network.get_submodule(path)
            whole = all(
                steps[user].path and network.get_submodule(steps[user].path) is part
                for user in node.users
            )
            if not whole:
                found.read.add(id(getattr(part, name)))
    return found


def _moved(values: Any) -> Any:
    """The tensors among ``values`` after a sum, which no reading of a graph sees through."""
    return torch.utils._pytree.tree_map(
        lambda v: v + 0.0 if isinstance(v, Tensor) and v.is_floating_point() else v, values
    )
