"""From an eval-mode PyTorch CNN to the bytes of a ``.tflite`` file, in fp32 or int8."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headgate.compile.export.tflite.fold import BatchNorm, fold
from headgate.compile.export.tflite.operators import HANDLERS, Untranslatable
from headgate.compile.export.tflite.place import fill, filling_is_cheaper
from headgate.compile.export.tflite.value import Value
from headgate.device.quiet import quiet_stderr
from headgate.errors import CompileError, InputError, ToolMissing, UnsupportedOperator, why

if TYPE_CHECKING:
    import torch

Node = Any  # torch.fx.Node, whose argument types are too wide to check

_CONVOLUTIONS = ("aten.conv2d", "aten.convolution")
_NORMS = ("aten.batch_norm", "aten._native_batch_norm_legit_no_training")
_PLACE = "headgate.place_channels"

_GATED = ("headgate.gated_conv2d", "headgate.pixel_gated_conv2d")


def convert(
    module: torch.nn.Module,
    example: torch.Tensor,
    calibration: NDArray[np.float32] | None = None,
) -> bytes:
    """Translate a CNN with one input and one output, dense or statically pruned, to TFLite.

    The input of the result is float32 (1,H,W,C) where the module takes (1,C,H,W); its output is
    the module's, float32. Without ``calibration`` everything is fp32 and numbers agree with
    PyTorch to rounding. With it, weights (one scale per output channel) and activations (one
    scale per tensor, from the ranges seen on these images) are int8, as is all arithmetic
    between the first and the last operator.

    Args:
        module: The network; it is exported in evaluation mode.
        example: One input (1,C,H,W).
        calibration: Real images (N,C,H,W), preprocessed, for int8.

    Raises:
        ToolMissing: TensorFlow is not installed.
        UnsupportedOperator: An operator, or an option of one, has no translation; or the network
            has gates.
        InputError: The calibration images do not have the example's shape.
        CompileError: The network cannot be exported, or TensorFlow's converter refuses it.
    """
    import torch

    from headgate.train.evaluation_mode import evaluating

    if calibration is not None:
        _check_calibration(calibration, tuple(example.shape))
    tf = _import_tensorflow()
    try:
        with evaluating(module), torch.no_grad():
            # With nothing decomposed: what is changed in place becomes a value of its own.
            program = torch.export.export(module, (example,)).run_decompositions({})
    except Exception as error:  # torch.export raises many kinds
        raise CompileError(f"torch.export cannot trace the network: {why(error)}") from error
    _refuse_gates(program.graph)
    translator = _Translator(tf, program)
    batch, channels, height, width = example.shape
    signature = tf.TensorSpec((batch, height, width, channels), tf.float32, name="input")
    function = tf.function(translator.translate, input_signature=[signature])
    concrete = function.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], concrete.graph)
    if calibration is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: _one_by_one(calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    try:
        with quiet_stderr(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Statistics for quantized inputs")
            return bytes(converter.convert())
    except Exception as error:
        raise CompileError(f"TensorFlow's TFLite converter failed: {why(error)}") from error


def tool_versions() -> dict[str, str]:
    """Versions of the packages that a conversion goes through."""
    import torch

    return {"torch": torch.__version__, "tensorflow": _import_tensorflow().__version__}


def _check_calibration(images: NDArray[np.float32], example: tuple[int, ...]) -> None:
    if images.dtype != np.float32 or images.shape[1:] != example[1:] or not len(images):
        raise InputError(
            f"calibration images are {images.dtype} {images.shape}, the network takes float32 "
            f"(N, {', '.join(map(str, example[1:]))}) with N of 1 or more"
        )


def _one_by_one(images: NDArray[np.float32]) -> Iterator[list[NDArray[np.float32]]]:
    for image in images.transpose(0, 2, 3, 1):
        yield [np.ascontiguousarray(image[None])]


def _refuse_gates(graph: torch.fx.Graph) -> None:
    for node in graph.nodes:
        if node.op == "call_function" and operator_name(node) in _GATED:
            raise UnsupportedOperator(
                f"module {_path(node)} has a gate that decides per image, which TFLite cannot "
                "express; convert the dense network or a statically pruned one, and compile this "
                "one to a bundle (--backend headgate)"
            )


class _Translator:
    """Walks an exported graph and calls a handler for each node."""

    def __init__(self, tf: Any, program: torch.export.ExportedProgram) -> None:
        self._tf = tf
        self._graph = program.graph
        self._signature = program.graph_signature
        self._constants = _constants(program)
        self._norm_after = self._find_norms()
        self._placed_after = self._find_places()

    def translate(self, image: Any) -> Any:
        """The traced function: NHWC tensor in, output tensor out."""
        values: dict[Node, Any] = {}
        for node in self._graph.nodes:
            if node.op == "placeholder":
                batch, height, width, channels = image.shape
                values[node] = self._constants.get(
                    node.name, Value(image, (batch, channels, height, width))
                )
            elif node.op == "call_function":
                values[node] = self._call(node, values)
            elif node.op == "output":
                return self._output(values[self._result(node.args[0])])
        raise CompileError("the exported network has no output")

    def _result(self, results: tuple[Node, ...]) -> Node:
        """The node that the network returns, without what it has changed in place."""
        names = self._signature.user_outputs
        found = [node for node in results if getattr(node, "name", None) in names]
        if len(names) != 1 or len(found) != 1:
            raise CompileError(
                f"the network returns {len(names)} results; TFLite files are made of networks that "
                "return one tensor"
            )
        return found[0]

    def _call(self, node: Node, values: dict[Node, Any]) -> Any:
        name = operator_name(node)
        if name == "getitem":
            return values[node.args[0]]  # first result of a batch norm, the only tuple here
        if name in _NORMS and node.args[0] in self._norm_after:
            return values[node.args[0]]
        if node in self._placed_after.values():
            return values[node.args[0]]  # the convolution in front has put them in place
        handler = HANDLERS.get(name)
        if handler is None:
            raise UnsupportedOperator(
                f"TFLite conversion has no translation for {name} (module {_path(node)}); "
                f"supported: {', '.join(sorted(HANDLERS))}"
            )
        arguments = _substitute(node.args, values)
        if node in self._norm_after or node in self._placed_after:
            arguments = self._with_what_follows(node, arguments, values)
        try:
            return handler(self._tf, *arguments, **_substitute(node.kwargs, values))
        except Untranslatable as error:
            raise UnsupportedOperator(
                f"TFLite conversion cannot translate {error} (module {_path(node)}, {name})"
            ) from error

    def _with_what_follows(self, node: Node, arguments: Any, values: dict[Node, Any]) -> list[Any]:
        """A convolution's arguments with the norm and the placement behind it taken in."""
        x, weight, *rest = arguments
        bias, rest = (rest[0], rest[1:]) if rest else (None, [])
        if node in self._norm_after:
            weight, bias = fold(weight, bias, self._norm_after[node])
        if node in self._placed_after:
            _, constant, channels = _substitute(self._placed_after[node].args, values)
            weight, bias = fill(weight, bias, constant, channels)
        return [x, weight, bias, *rest]

    def _output(self, value: Value) -> Any:
        if value.is_image:
            return self._tf.transpose(value.tensor, (0, 3, 1, 2))
        if value.flattened_from is not None:
            channels, height, width = value.flattened_from
            image = self._tf.reshape(value.tensor, (-1, height, width, channels))
            return self._tf.reshape(self._tf.transpose(image, (0, 3, 1, 2)), value.shape)
        return value.tensor

    def _find_norms(self) -> dict[Node, BatchNorm]:
        """Convolutions whose only reader is a batch norm, with its constants."""
        found = {}
        for node in self._graph.nodes:
            if node.op != "call_function" or operator_name(node) not in _NORMS:
                continue
            source = node.args[0]
            if operator_name(source) in _CONVOLUTIONS and len(source.users) == 1:
                tensors: list[Any] = [
                    None if one is None else self._constants[one.name] for one in node.args[1:5]
                ]
                weight, bias, mean, variance = tensors
                found[source] = BatchNorm(weight, bias, mean, variance, _eps(node))
        return found

    def _find_places(self) -> dict[Node, Node]:
        """Convolutions that had better compute removed channels, and what would place them."""
        found = {}
        for node in self._graph.nodes:
            if node.op != "call_function" or operator_name(node) != _PLACE:
                continue
            source = node.args[0]
            if operator_name(source) == "getitem":  # the result of a batch norm
                source = source.args[0]
            if len(source.users) == 1 and source.args and source.args[0] in self._norm_after:
                source = source.args[0]
            if operator_name(source) not in _CONVOLUTIONS or len(source.users) != 1:
                continue
            weight, constant = (self._constants[n.args[1].name] for n in (source, node))
            if _groups(source) == 1 and filling_is_cheaper(weight.shape, len(constant)):
                found[source] = node
        return found


def operator_name(node: Node) -> str:
    """``aten.relu`` for any overload of it; ``getitem`` for Python's."""
    target: Any = node.target
    if hasattr(target, "overloadpacket"):
        return str(target.overloadpacket)
    return getattr(target, "__name__", str(target))


def _eps(node: Node) -> float:
    is_legit = operator_name(node) != "aten.batch_norm"
    return float(node.args[6] if is_legit else node.args[7])


def _groups(convolution: Node) -> int:
    index = 6 if operator_name(convolution) == "aten.conv2d" else 8
    return int(convolution.args[index]) if len(convolution.args) > index else 1


def _constants(program: torch.export.ExportedProgram) -> dict[str, Any]:
    """Parameters and buffers by the name of their placeholder."""
    signature = program.graph_signature
    state = {**program.constants, **program.state_dict}
    places = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    return {name: state[path].detach().cpu().numpy() for name, path in places.items()}


def _substitute(arguments: Any, values: dict[Node, Any]) -> Any:
    """Arguments of a node with other nodes replaced by what they computed."""
    if isinstance(arguments, (list, tuple)):
        return [_substitute(one, values) for one in arguments]
    if isinstance(arguments, dict):
        return {key: _substitute(one, values) for key, one in arguments.items()}
    return values.get(arguments, arguments) if hasattr(arguments, "op") else arguments


def _path(node: Node) -> str:
    """The module a node came from, as in ``stage1.0.conv1``."""
    stack = node.meta.get("nn_module_stack") or {}
    path = list(stack.values())[-1][0] if stack else ""
    return path or "<top level>"


def _import_tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    try:
        with quiet_stderr():
            import tensorflow
    except ModuleNotFoundError as error:
        raise ToolMissing(
            f"{error.name} is not installed, needed to write TFLite files; "
            "pip install 'headgate[tflite]'"
        ) from error
    return tensorflow
