"""Graphs of networks: torch.fx's, in which layers are whole, and torch.export's, of operators."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, fx, nn

from headgate.errors import ModelError, first_line


def opaque(value: Any) -> Any:
    """Stands in a graph for what a hook may do to a tensor."""
    return value


class Tracer(fx.Tracer):
    """Keeps layers whole, subclasses of torch's too, and hides what hooks may do.

    Args:
        whole: says of a module whether it is such a layer.
        hooked: modules that had hooks; arguments and results are read through :func:`opaque`.
        show_layers: except those of whole layers, whose hooks the caller looks at itself.

    Attributes:
        read: the tensors, by id, that other code than their own layer's reads.
    """

    def __init__(
        self,
        whole: Callable[[nn.Module], bool],
        hooked: Collection[nn.Module],
        *,
        show_layers: bool = False,
    ) -> None:
        super().__init__()
        self.whole, self.hooked, self.show_layers = whole, hooked, show_layers
        self.read: set[int] = set()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return self.whole(m) or super().is_leaf_module(m, module_qualified_name)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if isinstance(attr_val, Tensor):
            self.read.add(id(attr_val))
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> Any:
        if m not in self.hooked or (self.show_layers and self.is_leaf_module(m, "")):
            return super().call_module(m, forward, args, kwargs)
        args, kwargs = self._hide(args), self._hide(kwargs)
        return self._hide(super().call_module(m, forward, args, kwargs))

    def _hide(self, values: Any) -> Any:
        def hide(value: Any) -> Any:
            if not isinstance(value, fx.Proxy):
                return value
            return self.create_proxy("call_function", opaque, (value,), {})

        return torch.utils._pytree.tree_map(hide, values)


@dataclass(frozen=True)
class Trace:
    """The graph of ``network``, a copy without hooks.

    ``read`` are the tensors of its layers, by id, that other code than the layer's own reads.
    """

    network: nn.Module
    graph: fx.Graph
    read: set[int]

    def part(self, path: str) -> nn.Module:
        return self.network.get_submodule(path)

    def module_of(self, node: fx.Node) -> nn.Module | None:
        """The module that ``node`` calls, if it calls one."""
        return self.part(str(node.target)) if node.op == "call_module" else None

    def reads(self, part: nn.Module) -> bool:
        """Whether a tensor of the module is read by other code than its own."""
        return any(id(tensor) in self.read for tensor in own_tensors(part))


def own_tensors(part: nn.Module) -> list[Tensor]:
    """The parameters and buffers of a module, without those of the modules in it."""
    own = (*part._parameters.values(), *part._buffers.values())
    return [tensor for tensor in own if tensor is not None]


def first_change(before: list[Any], after: list[Any]) -> str | None:
    """Where two lists of steps, which begin with kind and target, part; None if they are equal."""
    for was, now in zip_longest(before, after, fillvalue=("", "its end")):
        if was != now:
            return str(now[1])
    return None


def exported(
    module: nn.Module, example: Tensor, consequence: str, *, any_batch: bool = False
) -> fx.GraphModule:
    """The graph of ``module`` for inputs of the shape of ``example``.

    Its parameters and buffers are those of ``module``. With ``any_batch`` it takes any number of
    images from two on, as ``example`` has to. Where there is none, a ModelError says why, and the
    ``consequence``.
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


def depending_on(graph: fx.Graph, wanted: set[fx.Node]) -> set[fx.Node]:
    """The nodes that depend on a wanted one, and these themselves."""
    found = set(wanted)
    for node in graph.nodes:
        if not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found
