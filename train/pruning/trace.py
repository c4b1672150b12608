"""The graph of a network that may lose channels, and what its hooks and its code reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from headgate.errors import ModelError, why
from headgate.train.copying import HOOKS, copied, without_hooks
from headgate.train.pruning.operators import PlaceChannels
from headgate.train.tracing import Tracer

WHOLE = nn.Conv2d | nn.BatchNorm2d | nn.Linear | PlaceChannels


@dataclass(frozen=True)
class Trace:
    """The graph of ``network``, a copy without hooks; ``read`` are the tensors, by id, of its
    convolutions, norms and linear layers that other code than their own reads.
    """

    network: nn.Module
    graph: fx.Graph
    read: set[int]

    def module_of(self, node: fx.Node) -> nn.Module | None:
        """The module that ``node`` calls, if it calls one."""
        return self.network.get_submodule(str(node.target)) if node.op == "call_module" else None

    def calls_of(self, path: str) -> list[fx.Node]:
        """The nodes that call the module at ``path``."""
        return [n for n in self.graph.nodes if n.op == "call_module" and n.target == path]

    def reads(self, path: str) -> bool:
        """Whether a tensor of the module at ``path`` is read by other code than its own."""
        part = self.network.get_submodule(path)
        return any(id(tensor) in self.read for tensor in (*part.parameters(), *part.buffers()))

    def steps(self) -> list[tuple[str, str, Any]]:
        """The graph's operations in order, without the placements of removed channels."""
        found = []
        for node in self.graph.nodes:
            if isinstance(self.module_of(node), PlaceChannels):
                continue
            arguments = fx.node.map_arg((node.args, node.kwargs), lambda argument: None)
            found.append((node.op, str(node.target), repr(arguments)))
        return found


def trace(module: nn.Module) -> Trace:
    """The graph of ``module``, which is not changed.

    Raises:
        ModelError: ``torch.fx`` cannot trace it.
    """
    network = copied(module)
    tracer = Tracer(WHOLE, without_hooks(network))
    try:
        graph = tracer.trace(network)
    except Exception as error:  # whatever the network's own code raises on a proxy
        raise ModelError(
            f"{type(module).__name__} cannot be traced by torch.fx, so it cannot be pruned: "
            f"{why(error)}"
        ) from error
    return Trace(network, graph, tracer.read)


def computes_its_own(part: nn.Module, stock: type[nn.Module]) -> str | None:
    """Why ``part`` is not simply a ``stock`` layer whose weights are its parameters."""
    hooks = [kind for attribute, kind in HOOKS.items() if getattr(part, attribute)]
    parameters = {name for name in ("weight", "bias") if isinstance(getattr(part, name), Tensor)}
    if not parameters <= set(part._parameters):
        by = f"a {hooks[0]} hook" if hooks else "a parametrization"
        return f"its weight is computed when it runs, by {by}: remove that first"
    if hooks:
        return f"it has a {hooks[0]} hook: remove that first"
    for method in ("forward", "_conv_forward"):
        own = getattr(type(part), method, None) is not getattr(stock, method, None)
        if own or method in vars(part):
            return f"its class {type(part).__name__} computes something of its own"
    return None
