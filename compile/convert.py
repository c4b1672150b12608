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


class Converter:
    """Converts the ``main`` function of a Relax module; ``paths`` maps its variables to modules."""

    def __init__(self, paths: dict[str, str]) -> None:
        self._paths = paths
        self._env: dict[str, Any] = {}
        self._nodes: list[Node] = []
        self._constants = 0
        self._path = ""

    def convert(self, module: tvm.IRModule) -> Graph:
        """The graph of ``module["main"]``.

        Raises:
            CompileError: a tensor is not float32 or has no fixed shape.
        """
        function = module["main"]
        inputs = []
        for parameter in function.params:
            value = Value(parameter.name, _shape(parameter), dtype=_dtype(parameter))
            self._env[parameter.name] = value
            inputs.append(value)
        bindings = [b for block in function.body.blocks for b in block.bindings]
        # An operator that becomes several bindings names only the last.
        paths: list[str] = []
        for binding in reversed(bindings):
            last = paths[-1] if paths else ""
            paths.append(self._paths.get(binding.var.name, last))
        for binding, self._path in zip(bindings, reversed(paths), strict=True):
            self._env[binding.var.name] = self._expression(binding.value, binding.var)
        result = self._operand(function.body.body)
        outputs = result if isinstance(result, list) else [result]
        for value in (*inputs, *outputs):
            if value.dtype != "float32":
                raise CompileError(
                    f"Input or result {value.name!r} is of type {value.dtype}; headgate compiles "
                    "networks from float32 to float32."
                )
        return Graph(inputs, self._nodes, outputs)

    def _expression(self, expression: Any, var: Any) -> Any:
        if not isinstance(expression, relax.Call):
            return self._operand(expression)
        name = getattr(expression.op, "name", "")
        if name == "relax.call_pure_packed":
            name = str(expression.args[0].global_symbol)
        arguments = [self._operand(a) for a in expression.args]
        constant = [a.data for a in arguments if isinstance(a, Value) and a.data is not None]
        if name in _FOLD and len(constant) == len(arguments):
            return self._constant(_FOLD[name](*constant))
        if name in _FILL:
            return self._constant(np.full(_shape(var), _FILL[name](arguments), _dtype(var)))
        method = _CONVERT.get(name)
        tensors = [a for a in arguments if isinstance(a, Value)]
        floats = {_dtype(var), *(a.dtype for a in tensors)} == {"float32"}
        if method is not None and (floats or name == "relax.arange"):
            result = method(self, expression, arguments, var)
            if result is not None:
                return result
        return self._generic(expression, arguments, var)

    def _operand(self, expression: Any) -> Any:
        if isinstance(expression, relax.Var):
            return self._env[expression.name]
        if isinstance(expression, tvm.ir.GenericConst):
            return self._constant(expression.value.numpy())
        if isinstance(expression, relax.Tuple):
            return [self._operand(field) for field in expression.fields]
        if isinstance(expression, relax.TupleGetItem):
            return self._operand(expression.tuple_value)[expression.index]
        return expression

    def _constant(self, data: np.ndarray) -> Value:
        self._constants += 1
        data = np.asarray(data, order="C")
        return Value(f"constant{self._constants}", data.shape, data, str(data.dtype))

    def node(self, kind: str, inputs: list[Value], var: Any, **attributes: Any) -> Value:
        """Appends a node and returns its result."""
        output = Value(var.name, _shape(var), dtype=_dtype(var))
        self._nodes.append(Node(kind, inputs, output, self._path, attributes))
        return output

    def _generic(self, call: Any, arguments: list[Any], var: Any) -> Any:
        inputs = [a for a in arguments if isinstance(a, Value)]
        for argument in arguments:
            if isinstance(argument, list):
                inputs += [a for a in argument if isinstance(a, Value)]
        if not isinstance(var.ty, relax.TensorType):
            raise CompileError(
                f"Operator {_operator(call)} in module {self._path!r} has several results; of "
                "those only split can be lowered."
            )
        return self.node("relax", inputs, var, call=call, operator=_operator(call))

    def conv2d(self, call: Any, arguments: list[Any], var: Any) -> Value | None:
        x, weight = arguments
        attributes = call.attrs
        if weight.data is None or attributes.data_layout != "NCHW":
            return None
        return self.node(
            "conv2d",
            [x],
            var,
            weight=weight.data,
            bias=np.zeros(weight.shape[0], np.float32),
            stride=_integers(attributes.strides),
            padding=_integers(attributes.padding),
            dilation=_integers(attributes.dilation),
            groups=int(attributes.groups),
        )

    def gated_conv2d(self, call: Any, arguments: list[Any], var: Any) -> Value:
        x, weight, scale, bias, gate, shift = arguments[1:7]
        stride, padding, dilation, groups = (_integers(a.values) for a in call.args[7:11])
        return self.node(
            "gated_conv2d",
            [x, gate],
            var,
            weight=weight.data * scale.data.reshape(-1, 1, 1, 1),
            bias=bias.data.reshape(-1),
            shift=shift.data.reshape(-1),
            stride=stride,
            padding=(*padding, *padding),
            dilation=dilation,
            groups=groups[0],
        )

    def keep_top_k(self, call: Any, arguments: list[Any], var: Any) -> Value:
        return self.node("keep_top_k", [arguments[1]], var, k=_integers(call.args[2].values)[0])

    def batch_norm(self, call: Any, arguments: list[Any], var: Any) -> list[Any] | None:
        x, gamma, beta, mean, variance = arguments
        if call.attrs.axis != 1 or any(a.data is None for a in (gamma, beta, mean, variance)):
            return None
        scale = gamma.data / np.sqrt(variance.data + np.float32(call.attrs.epsilon))
        shift = beta.data - mean.data * scale
        output = Value(var.name, x.shape)
        affine = {"scale": scale.astype(np.float32), "shift": shift.astype(np.float32)}
        self._nodes.append(Node("affine", [x], output, self._path, affine))
        return [output, mean, variance]

    def _per_channel(self, value: Value, like: Value) -> np.ndarray | None:
        """A constant that varies over channels only, as one number for each."""
        if value.data is None or len(like.shape) not in (2, 4):
            return None
        shape = (1,) * (len(like.shape) - value.data.ndim) + value.data.shape
        if shape not in {(1,) * len(shape), (1, like.channels) + (1,) * (len(shape) - 2)}:
            return None
        return np.broadcast_to(value.data.reshape(-1), (like.channels,)).astype(np.float32)

    def arithmetic(self, call: Any, arguments: list[Any], var: Any) -> Value | None:
        a, b = arguments
        name = call.op.name
        if a.data is not None and name in ("relax.add", "relax.multiply"):
            a, b = b, a
        constant = self._per_channel(b, a)
        if constant is not None and a.shape == _shape(var):
            one, zero = np.ones_like(constant), np.zeros_like(constant)
            scale, shift = {
                "relax.add": lambda c: (one, c),
                "relax.subtract": lambda c: (one, -c),
                "relax.multiply": lambda c: (c, zero),
                "relax.divide": lambda c: (1 / c, zero),
            }[name](constant)
            return self.node("affine", [a], var, scale=scale, shift=shift)
        if name == "relax.add" and a.shape == b.shape and a.data is None and b.data is None:
            return self.node("add", [a, b], var)
        return None

    def clamp(self, call: Any, arguments: list[Any], var: Any) -> Value:
        low, high = {
            "relax.nn.relu": (0.0, None),
            "relax.nn.relu6": (0.0, 6.0),
        }.get(call.op.name, (None, None))
        if call.op.name == "relax.clip":
            low, high = (float(a.value) for a in call.args[1:3])
            low = None if low == -np.inf else low
            high = None if high == np.inf else high
        return self.node("clamp", [arguments[0]], var, low=low, high=high)

    def absolute(self, call: Any, arguments: list[Any], var: Any) -> Value:
        return self.node("abs", [arguments[0]], var, call=call, operator="abs")

    def pool(self, call: Any, arguments: list[Any], var: Any) -> Value | None:
        kind = call.op.name.removeprefix("relax.nn.")
        attributes = call.attrs
        padding = _integers(attributes.padding)
        if attributes.ceil_mode or attributes.layout != "NCHW":
            return None
        if kind == "avg_pool2d" and any(padding) and not attributes.count_include_pad:
            return None
        return self.node(
            kind,
            [arguments[0]],
            var,
            kernel=_integers(attributes.pool_size),
            stride=_integers(attributes.strides),
            padding=padding,
            dilation=_integers(attributes.dilation),
        )

    def adaptive_pool(self, call: Any, arguments: list[Any], var: Any) -> Value | None:
        x = arguments[0]
        out = _shape(var)[2:]
        if out == (1, 1):
            return self.node("channel_mean", [x], var, absolute=False)
        if any(size % parts for size, parts in zip(x.shape[2:], out, strict=True)):
            return None
        window = tuple(size // parts for size, parts in zip(x.shape[2:], out, strict=True))
        if window == (1, 1):
            return x
        return self.node(
            "avg_pool2d",
            [x],
            var,
            kernel=window,
            stride=window,
            padding=(0, 0, 0, 0),
            dilation=(1, 1),
        )

    def mean(self, call: Any, arguments: list[Any], var: Any) -> Value | None:
        x = arguments[0]
        if len(x.shape) != 4 or call.attrs.axis is None:
            return None
        if sorted(a % 4 for a in _integers(call.attrs.axis)) != [2, 3]:
            return None
        return self.node("channel_mean", [x], var, absolute=False)

    def concat(self, call: Any, arguments: list[Any], var: Any) -> Value | None:
        values = arguments[0]
        axis = int(call.attrs.axis)
        if axis % len(_shape(var)) != 1 or any(v.data is not None for v in values):
            return None
        return self.node("concat", list(values), var)

    def arange(self, call: Any, arguments: list[Any], var: Any) -> Value:
        start, end, step = (argument.value for argument in call.args)
        return self._constant(np.arange(start, end, step).astype(_dtype(var)))

    def split(self, call: Any, arguments: list[Any], var: Any) -> list[Value]:
        x, axis = arguments[0], int(call.attrs.axis)
        parts = call.attrs.indices_or_sections
        size = x.shape[axis]
        if isinstance(parts, int):
            ends = list(range(-(-size // parts), size, -(-size // parts)))
        else:
            ends = list(_integers(parts))
        results: list[Value] = []
        for begin, end in zip([0, *ends], [*ends, size], strict=True):
            piece = relax.op.strided_slice(call.args[0], [axis], [begin], [end])
            shape = (*x.shape[:axis], end - begin, *x.shape[axis + 1 :])
            results.append(Value(f"{var.name}.{len(results)}", shape))
            self._nodes.append(
                Node("relax", [x], results[-1], self._path, {"call": piece, "operator": "split"})
            )
        return results

    def reshape(self, call: Any, arguments: list[Any], var: Any) -> Value:
        x = arguments[0]
        if x.data is not None:
            return self._constant(x.data.reshape(_shape(var)))
        return self.node("reshape", [x], var)

    def permute(self, call: Any, arguments: list[Any], var: Any) -> Value | None:
        x = arguments[0]
        if x.data is None:
            return None
        axes = call.attrs.axes
        return self._constant(x.data.transpose(None if axes is None else _integers(axes)))

    def matmul(self, call: Any, arguments: list[Any], var: Any) -> Value | None:
        x, weight = arguments
        if weight.data is None or weight.data.ndim != 2 or x.size != weight.shape[0]:
            return None
        bias = np.zeros(weight.shape[1], np.float32)
        return self.node("linear", [x], var, weight=weight.data.T, bias=bias)


_CONVERT: dict[str, Callable[..., Any]] = {
    "relax.nn.conv2d": Converter.conv2d,
    "headgate.gated_conv2d": Converter.gated_conv2d,
    "headgate.keep_top_k": Converter.keep_top_k,
    "relax.nn.batch_norm": Converter.batch_norm,
    "relax.add": Converter.arithmetic,
    "relax.subtract": Converter.arithmetic,
    "relax.multiply": Converter.arithmetic,
    "relax.divide": Converter.arithmetic,
    "relax.nn.relu": Converter.clamp,
    "relax.nn.relu6": Converter.clamp,
    "relax.clip": Converter.clamp,
    "relax.abs": Converter.absolute,
    "relax.nn.max_pool2d": Converter.pool,
    "relax.nn.avg_pool2d": Converter.pool,
    "relax.nn.adaptive_avg_pool2d": Converter.adaptive_pool,
    "relax.mean": Converter.mean,
    "relax.concat": Converter.concat,
    "relax.arange": Converter.arange,
    "relax.split": Converter.split,
    "relax.reshape": Converter.reshape,
    "relax.squeeze": Converter.reshape,
    "relax.expand_dims": Converter.reshape,
    "relax.permute_dims": Converter.permute,
    "relax.matmul": Converter.matmul,
}


def _operator(call: Any) -> str:
    return str(getattr(call.op, "name", call.op)).removeprefix("relax.").removeprefix("nn.")


def _integers(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


def _dtype(var: Any) -> str:
    """float32 too for a tuple: its fields are looked at one by one."""
    return str(var.ty.dtype) if isinstance(var.ty, relax.TensorType) else "float32"


def _shape(var: Any) -> tuple[int, ...]:
    kind = var.ty
    if not isinstance(kind, relax.TensorType):
        return ()
    if str(kind.dtype) not in DTYPES:
        raise CompileError(
            f"A tensor of type {kind.dtype} cannot be compiled; headgate compiles float32, and "
            f"{', '.join(DTYPES[1:])} between operators."
        )
    try:
        return _integers(kind.shape.values)
    except (AttributeError, TypeError) as error:
        raise CompileError(
            "A tensor's shape is not fixed; export the network with fixed input shapes."
        ) from error
