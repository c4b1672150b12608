"""From Relax to a graph: one small method for each operator, a table of them, the rest as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from tvm import relax

from headgate.compile.graph import Graph, Node, Value
from headgate.errors import CompileError

_FOLD: dict[str, Callable[..., np.ndarray]] = {
    # Operators whose operands may all be constants: the arithmetic around batch norm.
    "relax.add": np.add,
    "relax.subtract": np.subtract,
    "relax.multiply": np.multiply,
    "relax.divide": np.divide,
    "relax.negative": np.negative,
    "relax.sqrt": np.sqrt,
    "relax.rsqrt": lambda x: np.float32(1) / np.sqrt(x),
}
_FILL: dict[str, Callable[[list[Any]], Any]] = {
    # Operators that make a constant, and the number they fill it with.
    "relax.full": lambda arguments: arguments[1].data,
    "relax.full_like": lambda arguments: arguments[1].data,
    "relax.zeros": lambda _: 0,
    "relax.zeros_like": lambda _: 0,
    "relax.ones": lambda _: 1,
    "relax.ones_like": lambda _: 1,
}
Operand = Value | list[Any]
DTYPES = ("float32", "bool", "int32", "int64")
"""Types of numbers between operators: masks and indices, beside what is computed."""


Handler = Callable[..., Any]
"""``handler(converter, call, arguments, var)``: the value or values of a call, None: leave it."""


class Converter:
    """Converts the ``main`` function of a Relax module.

    ``operators`` has a handler for each Relax operator the schedules know (``operators.py``),
    ``paths`` maps Relax's variables to modules.
    """

    def __init__(self, operators: dict[str, Handler], paths: dict[str, str]) -> None:
        self._operators = operators
        self._paths = paths
        self._env: dict[str, Any] = {}
        self.nodes: list[Node] = []
        self._constants = 0
        self.path = ""

    def convert(self, module: tvm.IRModule) -> Graph:
        """The graph of ``module["main"]``.

        Raises:
            CompileError: a tensor is not float32 or has no fixed shape.
        """
        function = module["main"]
        inputs = []
        for parameter in function.params:
            value = Value(parameter.name, shape_of(parameter), dtype=dtype_of(parameter))
            self._env[parameter.name] = value
            inputs.append(value)
        bindings = [b for block in function.body.blocks for b in block.bindings]
        # An operator that becomes several bindings names only the last.
        paths: list[str] = []
        for binding in reversed(bindings):
            last = paths[-1] if paths else ""
            paths.append(self._paths.get(binding.var.name, last))
        for binding, self.path in zip(bindings, reversed(paths), strict=True):
            self._env[binding.var.name] = self._expression(binding.value, binding.var)
        result = self._operand(function.body.body)
        outputs = result if isinstance(result, list) else [result]
        for value in (*inputs, *outputs):
            if value.dtype != "float32":
                raise CompileError(
                    f"Input or result {value.name!r} is of type {value.dtype}; headgate compiles "
                    "networks from float32 to float32."
                )
        return Graph(inputs, self.nodes, outputs)

    def _expression(self, expression: Any, var: Any) -> Any:
        if not isinstance(expression, relax.Call):
            return self._operand(expression)
        name = getattr(expression.op, "name", "")
        if name == "relax.call_pure_packed":
            name = str(expression.args[0].global_symbol)
        arguments = [self._operand(a) for a in expression.args]
        constant = [a.data for a in arguments if isinstance(a, Value) and a.data is not None]
        if name in _FOLD and len(constant) == len(arguments):
            return self.constant(_FOLD[name](*constant))
        if name in _FILL:
            return self.constant(np.full(shape_of(var), _FILL[name](arguments), dtype_of(var)))
        method = self._operators.get(name)
        tensors = [a for a in arguments if isinstance(a, Value)]
        floats = {dtype_of(var), *(a.dtype for a in tensors)} == {"float32"}
        if method is not None and (floats or name == "relax.arange"):
            result = method(self, expression, arguments, var)
            if result is not None:
                return result
        return self._generic(expression, arguments, var)

    def _operand(self, expression: Any) -> Any:
        if isinstance(expression, relax.Var):
            return self._env[expression.name]
        if isinstance(expression, tvm.ir.GenericConst):
            return self.constant(expression.value.numpy())
        if isinstance(expression, relax.Tuple):
            return [self._operand(field) for field in expression.fields]
        if isinstance(expression, relax.TupleGetItem):
            return self._operand(expression.tuple_value)[expression.index]
        return expression

    def constant(self, data: np.ndarray) -> Value:
        self._constants += 1
        data = np.asarray(data, order="C")
        return Value(f"constant{self._constants}", data.shape, data, str(data.dtype))

    def node(self, kind: str, inputs: list[Value], var: Any, **attributes: Any) -> Value:
        """Appends a node and returns its result."""
        output = Value(var.name, shape_of(var), dtype=dtype_of(var))
        self.nodes.append(Node(kind, inputs, output, self.path, attributes))
        return output

    def _generic(self, call: Any, arguments: list[Any], var: Any) -> Any:
        inputs = [a for a in arguments if isinstance(a, Value)]
        for argument in arguments:
            if isinstance(argument, list):
                inputs += [a for a in argument if isinstance(a, Value)]
        if not isinstance(var.ty, relax.TensorType):
            raise CompileError(
                f"Operator {operator_name(call)} in module {self.path!r} has several results; of "
                "those only split can be lowered."
            )
        return self.node("relax", inputs, var, call=call, operator=operator_name(call))


def operator_name(call: Any) -> str:
    return str(getattr(call.op, "name", call.op)).removeprefix("relax.").removeprefix("nn.")


def integers(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


def dtype_of(var: Any) -> str:
    """float32 too for a tuple: its fields are looked at one by one."""
    return str(var.ty.dtype) if isinstance(var.ty, relax.TensorType) else "float32"


def shape_of(var: Any) -> tuple[int, ...]:
    kind = var.ty
    if not isinstance(kind, relax.TensorType):
        return ()
    if str(kind.dtype) not in DTYPES:
        raise CompileError(
            f"A tensor of type {kind.dtype} cannot be compiled; headgate compiles float32, and "
            f"{', '.join(DTYPES[1:])} between operators."
        )
    try:
        return integers(kind.shape.values)
    except (AttributeError, TypeError) as error:
        raise CompileError(
            "A tensor's shape is not fixed; export the network with fixed input shapes."
        ) from error
