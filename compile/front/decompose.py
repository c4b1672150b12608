"""Which compound operators PyTorch takes apart before the compiler reads them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch._decomp import decomposition_table


def decompositions(known: Collection[str]) -> dict[Any, Any]:
    """PyTorch's decomposition of every operator that has one and is not ``known`` by name.

    ``torch.export``'s own table keeps the core operators, many of which PyTorch can take apart
    further; the compiler has kernels for what is left.
    """
    table = torch.export.default_decompositions()
    for operator, function in decomposition_table.items():
        if isinstance(operator, torch._ops.OpOverload) and operator not in table:
            table[operator] = function
    for operator in list(table):
        if str(operator) in known or _makes_a_constant(operator):
            table.pop(operator)
    return table


def _makes_a_constant(operator: Any) -> bool:
    """Whether it reads no tensor: PyTorch evaluates it as it is."""
    return not any("Tensor" in str(a.type) for a in operator._schema.arguments)
