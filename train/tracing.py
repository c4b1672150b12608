"""The tracer of networks that get gates or lose channels."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, fx, nn


def opaque(value: Any) -> Any:
    """Stands in a graph for what a hook may do to a tensor."""
    return value


class Tracer(fx.Tracer):
    """Keeps layers whole, subclasses of torch's too, and hides what hooks may do.

    Args:
        whole: the classes of the layers.
        hooked: modules that had hooks; their arguments and results are read through
            :func:`opaque`.
        show_layers: except those of whole layers, whose hooks the caller looks at itself.

    Attributes:
        read: the tensors, by id, that other code than their own layer's reads.
    """

    def __init__(
        self, whole: Any, hooked: Collection[nn.Module], *, show_layers: bool = False
    ) -> None:
        super().__init__()
        self.whole, self.hooked, self.show_layers = whole, hooked, show_layers
        self.read: set[int] = set()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self.whole) or super().is_leaf_module(m, module_qualified_name)

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
