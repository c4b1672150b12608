"""From core ATen operators to a graph: one handler for each operator, in a table."""

from __future__ import annotations

import operator
from typing import Any

from torch import Tensor, fx

from headgate.compile.front.graph import Graph, Value
from headgate.compile.front.operators import OPERATORS
from headgate.compile.front.reading import Call, dtype_name, module_path
from headgate.device.tensor_type import FLOAT32, TensorType
from headgate.errors import CompileError, UnsupportedOperator

DTYPES = (FLOAT32, "float64", "bool", "int8", "uint8", "int16", "int32", "int64")
"""Types of numbers between operators: masks and indices, beside what is computed."""


def convert(module: fx.GraphModule) -> Graph:
    """The graph of ``module``; a value has the name of the node that it stands for.

    Raises:
        UnsupportedOperator: an operator, an argument or a type that no handler takes.
        CompileError: an input or a result that is not float32.
    """
    graph = Graph([], [], [], module)
    values: dict[fx.Node, Any] = {}
    for node in module.graph.nodes:
        if node.op == "placeholder":
            tensor = node.meta["val"]
            values[node] = Value(node.name, TensorType(tuple(tensor.shape), _dtype(node, tensor)))
            graph.inputs.append(values[node])
        elif node.op == "get_attr":
            tensor = getattr(module, str(node.target))
            _dtype(node, tensor)
            data = tensor.detach().cpu().contiguous().numpy()
            values[node] = Value.constant(node.name, data)
        elif node.target is operator.getitem:
            values[node] = _picked(node, values)
        elif node.op == "call_function":
            values[node] = _called(graph, node, values)
        elif node.op == "output":
            graph.outputs = [values[result] for result in node.args[0]]
    graph.origins = {v: node for node, v in values.items() if isinstance(v, Value)}
    for value in (*graph.inputs, *graph.outputs):
        if value.dtype != FLOAT32:
            raise CompileError(
                f"Input or result {value.name!r} is of type {value.dtype}; headgate compiles "
                "networks from float32 to float32."
            )
    return graph


def _dtype(node: fx.Node, tensor: Any) -> str:
    kind = dtype_name(tensor.dtype) if isinstance(tensor, Tensor) else type(tensor).__name__
    if kind not in DTYPES:
        raise UnsupportedOperator(
            f"Operator {node.target} in module {module_path(node)!r} cannot be lowered: its "
            f"result is of type {kind}; headgate compiles float32, and {', '.join(DTYPES[1:])} "
            "between operators."
        )
    return kind


def _picked(node: fx.Node, values: dict[fx.Node, Any]) -> Value:
    source, index = node.args
    assert isinstance(source, fx.Node)
    picked = values[source][index]
    if picked is None:
        raise UnsupportedOperator(
            f"Result {index} of operator {source.target} in module {module_path(source)!r} "
            "cannot be lowered; only the others can."
        )
    return picked


def _called(graph: Graph, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    """The value of a call, or a list of its values, None where nobody may read one."""
    handler = OPERATORS.get(str(node.target))
    if handler is None:
        raise UnsupportedOperator(
            f"Operator {node.target} in module {module_path(node)!r} cannot be lowered. "
            f"Headgate lowers convolution, pooling, linear, batch norm, add, concat, ReLU and "
            f"{len(OPERATORS)} further operators of PyTorch; rewrite the module with those, or "
            "leave it out of the compiled part."
        )
    call = Call(graph, node, values)
    for tensor in call.results:
        if tensor is not None:
            _dtype(node, tensor)
    result = handler(call)
    call.check_all_read()
    return result
