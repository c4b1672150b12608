"""From an eval-mode PyTorch CNN to the bytes of a ``.tflite`` file, in fp32 or int8."""

from __future__ import annotations

import os
import warnings
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headgate.compile.export.exporter import check_calibration
from headgate.compile.export.tflite.operators import (
    HANDLERS,
    SUPPORTED,
    Held,
    Untranslatable,
    constant,
    fill,
    in_order,
)
from headgate.compile.front.capture import capture
from headgate.compile.front.fuse import fold, scaled, scatter_placed
from headgate.compile.front.graph import Graph, Node
from headgate.device.quiet import quiet_stderr
from headgate.errors import CompileError, UnsupportedOperator, missing_package, why
from headgate.train.evaluation_mode import evaluating


def convert(
    module: nn.Module,
    example: Tensor,
    calibration: NDArray[np.float32] | None = None,
) -> bytes:
    """Translate a CNN with one input and one output, dense or statically pruned, to TFLite.

    The input of the result is float32 (1,H,W,C) where the module takes (1,C,H,W); its output is
    the module's, float32. Without ``calibration`` everything is fp32 and numbers agree with
    PyTorch to rounding. With it, weights (one scale per output channel) and activations (one
    scale per tensor, from the ranges seen on these images) are int8, as is all arithmetic
    between the first and the last operator.

    Args:
        module: in either mode.
        example: (1,C,H,W).
        calibration: Real images (N,C,H,W), preprocessed, for int8.

    Raises:
        ToolMissing: TensorFlow is not installed.
        UnsupportedOperator: An operator, or an option of one, has no translation; or the network
            has gates.
        InputError: The calibration images do not have the example's shape, or are not finite.
        CompileError: The network cannot be exported, or TensorFlow's converter refuses it.
    """
    if calibration is not None:
        check_calibration(calibration, tuple(example.shape))
    tf = _import_tensorflow()
    graph = _read(module, example)
    batch, channels, height, width = example.shape
    signature = tf.TensorSpec((batch, height, width, channels), tf.float32, name="input")
    function = tf.function(
        partial(_translate, tf, graph), input_signature=[signature], autograph=False
    )
    concrete = function.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], concrete.graph)
    if calibration is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        images = calibration.transpose(0, 2, 3, 1)
        converter.representative_dataset = lambda: (
            [np.ascontiguousarray(image[None])] for image in images
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    try:
        with quiet_stderr(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Statistics for quantized inputs")
            return bytes(converter.convert())
    except Exception as error:
        raise CompileError(f"TensorFlow's TFLite converter failed: {why(error)}") from error


def tool_versions() -> dict[str, str]:
    """Versions of the packages that a conversion goes through."""
    return {"torch": torch.__version__, "tensorflow": _import_tensorflow().__version__}


def _read(module: nn.Module, example: Tensor) -> Graph:
    """The compiler's graph of ``module``, with batch norms and cheap placements taken in."""
    with evaluating(module):
        graph = capture(module, (example,))
    if len(graph.outputs) != 1:
        raise CompileError(
            f"the network returns {len(graph.outputs)} results; TFLite files are made of networks "
            "that return one tensor"
        )
    for node in graph.nodes:
        if node.kind in ("gated_conv2d", "pixel_gated_conv2d"):
            raise UnsupportedOperator(
                f"module {node.path} has a gate that decides per image, which TFLite cannot "
                "express; convert the dense network or a statically pruned one, and compile this "
                "one to a bundle (--backend headgate)"
            )
    fold(graph, "affine", scaled)
    fold(graph, "place_channels", fill)
    scatter_placed(graph)
    return graph


def _translate(tf: Any, graph: Graph, image: Any) -> Any:
    """The traced function: an NHWC tensor in, the network's result out."""
    known = {graph.inputs[0]: Held(image)}
    for node in graph.nodes:
        known |= {v: constant(tf, v.data) for v in node.inputs if v.data is not None}
        if node.kind not in HANDLERS:
            raise _unsupported(graph, node)
        try:
            known[node.output] = HANDLERS[node.kind](tf, node, *(known[v] for v in node.inputs))
        except Untranslatable as error:
            raise _unsupported(graph, node, f"; here it is {error}") from error
    (result,) = graph.outputs
    return in_order(tf, known[result], result.shape)


def _unsupported(graph: Graph, node: Node, here: str = "") -> UnsupportedOperator:
    traced = {known.name: known for known in graph.module.graph.nodes}
    call = traced[node.output.name.partition(".")[0]]
    operator = call.meta.get("original_aten", call.target).overloadpacket
    return UnsupportedOperator(
        f"TFLite conversion has no translation for {operator} (module "
        f"{node.path or '<top level>'}); supported: {SUPPORTED}{here}"
    )


def _import_tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    try:
        with quiet_stderr():
            import tensorflow
    except ModuleNotFoundError as error:
        raise missing_package("Writing TFLite files", error) from error
    return tensorflow
