"""One call of an operator, as its handler reads it: no argument goes unread unnoticed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from headgate.compile.front.graph import Graph, Node, Value
from headgate.device.tensor_type import FLOAT32, TensorType
from headgate.errors import UnsupportedOperator

# Where and how a tensor is stored says nothing about its numbers.
_STORAGE = {"device", "layout", "memory_format", "non_blocking", "pin_memory"}
_ANY_TYPE = ("compute", "reshape", "scan", "sort")
"""Kinds of node that are not for float32 alone."""
Traced = fx.Node
Number = bool | int | float
Element = Callable[..., Any]
"""``element(readers, *indices)``: one number of a result, as TIR; see ``graph.KINDS``."""


def module_path(node: fx.Node) -> str:
    """The dotted path of the module that a node was traced in."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack and stack[-1][0] else ""


@dataclass
class Call:
    """A node of the exported graph, with values for tensors.

    ``call["dim"]`` is an argument by its name in the operator's schema.
    """

    graph: Graph
    fx: Traced
    values: dict[Traced, Any]
    _read: set[str] = field(default_factory=set)

    @property
    def operator(self) -> str:
        """ "add" of ``aten.add.Tensor``."""
        return str(self.fx.target).split(".")[1]

    @property
    def path(self) -> str:
        return module_path(self.fx)

    @property
    def results(self) -> list[Tensor]:
        """What the operator returned when it was traced: tensors without numbers."""
        found = self.fx.meta["val"]
        return list(found) if isinstance(found, tuple | list) else [found]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.results[0].shape)

    @property
    def dtype(self) -> str:
        return dtype_name(self.results[0].dtype)

    @property
    def _arguments(self) -> dict[str, Any]:
        """The operator's arguments as its schema has them, in order."""
        schema: Any = self.fx.target
        return {argument.name: argument for argument in schema._schema.arguments}

    def has(self, name: str) -> bool:
        """Whether the operator has an argument of this name."""
        return name in self._arguments

    def __getitem__(self, name: str) -> Any:
        self._read.add(name)
        return fx.node.map_arg(self._given(name), lambda node: self.values[node])

    def _given(self, name: str) -> Any:
        arguments = self._arguments
        if name not in arguments:
            raise KeyError(f"{self.fx.target} has no argument {name!r}")
        position, default = list(arguments).index(name), arguments[name].default_value
        if position < len(self.fx.args):
            return self.fx.args[position]
        return self.fx.kwargs.get(name, default)

    def check_all_read(self) -> None:
        """Refuses an argument that has a value of its own and that the handler did not read."""
        for name, argument in self._arguments.items():
            if name in self._read or name in _STORAGE:
                continue
            given = self._given(name)
            if not argument.has_default_value() or given != argument.default_value:
                raise self.refused(f"with {name}={given}")

    def keeps_zero(self) -> bool:
        """Whether PyTorch makes zero of zero here, by an operator of one tensor's numbers."""
        tags = getattr(self.fx.target, "tags", ())
        if torch.Tag.pointwise not in tags or len(self.fx.all_input_nodes) != 1:
            return False
        (x,) = self.fx.all_input_nodes
        zero = torch.zeros(1, dtype=x.meta["val"].dtype)
        arguments, options = fx.node.map_arg((self.fx.args, self.fx.kwargs), lambda _: zero)
        target: Any = self.fx.target
        return bool((target(*arguments, **options) == 0).all())

    def refused(self, why: str, way_out: str = "") -> UnsupportedOperator:
        """The error that says that this call cannot be lowered."""
        ways = way_out or "rewrite the module with other operators, or leave it out"
        return UnsupportedOperator(
            f"Operator {self.fx.target} in module {self.path!r} cannot be lowered {why}; {ways}."
        )

    # Results

    def constant(self, data: np.ndarray, suffix: str = "") -> Value:
        data = np.asarray(data, order="C")
        return Value.constant(f"{self.fx.name}{suffix}", data)

    def node(
        self,
        kind: str,
        inputs: Sequence[Value],
        shape: Sequence[int] | None = None,
        *,
        suffix: str = "",
        dtype: str | None = None,
        **attributes: Any,
    ) -> Value:
        """Appends a node; its result, of the call's shape and dtype unless others are given."""
        shape = self.shape if shape is None else tuple(int(size) for size in shape)
        output = Value(f"{self.fx.name}{suffix}", TensorType(shape, dtype or self.dtype))
        if kind not in _ANY_TYPE and {v.dtype for v in (*inputs, output)} != {FLOAT32}:
            raise self.refused(f"for {kind} of other numbers than float32")
        self.graph.nodes.append(Node(kind, list(inputs), output, self.path, attributes))
        return output

    def compute(
        self,
        inputs: Sequence[Value],
        element: Element,
        shape: Sequence[int] | None = None,
        *,
        operator: str = "",
        rereads: bool | None = None,
        zeros: tuple[int, ...] = (),
        **place: Any,
    ) -> Value:
        """Appends a ``compute`` node.

        ``rereads``: numbers of an input are read several times, so that what makes them is not to
        be computed again each time; by default what ``reduces`` does. ``zeros``: the inputs of
        which a zero makes a zero in its place.
        """
        rereads = bool(place.get("reduces")) if rereads is None else rereads
        return self.node(
            "compute",
            inputs,
            shape,
            **place,
            element=element,
            operator=operator or self.operator,
            rereads=rereads,
            zeros=zeros,
        )

    def moved(
        self,
        x: Value,
        place: Callable[..., Sequence[Any]],
        shape: Sequence[int] | None = None,
        **options: Any,
    ) -> Value:
        """Appends a ``compute`` node of numbers of ``x``: that at ``place(*indices)`` for each."""
        return self.compute(
            [x],
            lambda readers, *indices: readers[0](*place(*indices)),
            shape,
            dtype=x.dtype,
            **options,
        )

    def reshape(self, x: Value, shape: Sequence[int], suffix: str = "") -> Value:
        """``x`` with the same numbers in another shape."""
        shape = tuple(int(size) for size in shape)
        assert x.size == int(np.prod(shape, dtype=np.int64)), (x.shape, shape)
        if x.data is not None:
            return self.constant(x.data.reshape(shape), suffix)
        if shape == x.shape and suffix:
            return x
        return self.node("reshape", [x], shape, suffix=suffix, dtype=x.dtype)


def dtype_name(dtype: torch.dtype) -> str:
    """ "float32" of ``torch.float32``."""
    return str(dtype).removeprefix("torch.")


def numbers(values: Any, length: int) -> tuple[int, ...]:
    """An ``int[]`` argument, of which one number may stand for ``length`` equal ones."""
    found = (values,) if isinstance(values, int) else tuple(int(v) for v in values)
    return found * length if len(found) == 1 else found


def axes(dims: Any, rank: int) -> tuple[int, ...]:
    """Dimensions counted from the front, in order; None or none of them: all."""
    dims = [dims] if isinstance(dims, int) else dims
    if not dims:
        return tuple(range(rank))
    return tuple(sorted(int(dim) % rank for dim in dims)) if rank else ()
