"""From an ``nn.Module`` to a :class:`~headgate.compile.graph.Graph`, by torch.export and Relax."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

import torch
from torch import fx, nn
from tvm import relax
from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

import headgate.train.gates.operators
import headgate.train.gates.pixel_operator
import headgate.train.pruning.operators  # noqa: F401  they register headgate::* with torch
from headgate.compile.convert import Converter
from headgate.compile.graph import Graph
from headgate.compile.operators import OPERATORS
from headgate.errors import CompileError, UnsupportedOperator

_PACKED = {
    # operator of ours: (tensor arguments, the others as integer lists)
    "gated_conv2d.default": (6, 4),
    "keep_top_k.default": (1, 1),
    "pixel_gated_conv2d.default": (8, 7),
    "place_channels.default": (2, 1),
}


def capture(module: nn.Module, example: tuple[torch.Tensor, ...]) -> Graph:
    """The graph of ``module`` in evaluation mode.

    ``example`` holds one tensor for each input, batch one.

    Raises:
        CompileError: torch.export cannot trace the network.
        UnsupportedOperator: an operator that neither headgate nor TVM can lower.
    """
    program = _export(module, example)
    importer = ExportedProgramImporter()
    known = set(importer.create_convert_map()) | set(_PACKED)
    for node in program.graph.nodes:
        if node.op == "call_function":
            _check_operator(node, known)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            relax_module = importer.from_exported_program(
                program, False, True, False, dict.fromkeys(_PACKED, _convert_packed(importer))
            )
        except Exception as error:  # TVM raises what it likes
            raise CompileError(
                f"TVM cannot read {type(module).__name__}: {_first_line(error)}"
            ) from error
    paths = {
        value.name: module_path(node) or node.name
        for node, value in importer.env.items()
        if isinstance(value, relax.Var)
    }
    graph = Converter(OPERATORS, paths).convert(relax_module)
    graph.remove_unused()
    return graph


def module_path(node: fx.Node) -> str:
    """The dotted path of the module that a node was traced in."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack and stack[-1][0] else ""


def _export(module: nn.Module, example: tuple[torch.Tensor, ...]) -> torch.export.ExportedProgram:
    _check_module(module)
    try:
        with _quiet(), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            # Core operators are what TVM's importer is tested with: given aten.batch_norm itself,
            # 0.27 takes the momentum for epsilon.
            return torch.export.export(module, example).run_decompositions()
    except Exception as error:  # torch.export raises its own and Python's exceptions alike
        reason = _first_line(error)
        hint = " Choose with torch.where, not with Python's if." if "dependent" in reason else ""
        raise CompileError(
            f"torch.export cannot trace {type(module).__name__}: {reason}.{hint}"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what PyTorch logs and prints on its way to an exception: that says it all."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _check_module(module: nn.Module) -> None:
    for path, child in module.named_modules():
        if child.training:
            where = f"Module {path!r}" if path else "The network"
            raise CompileError(f"{where} is in training mode; call eval() on the network first.")
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise CompileError(
                f"{name!r} is of type {kind}; headgate compiles float32, call module.float() first."
            )


def _check_operator(node: fx.Node, known: set[str]) -> None:
    if _name(node) not in known:
        raise UnsupportedOperator(
            f"Operator {node.target} in module {module_path(node)!r} cannot be lowered. "
            f"Headgate lowers convolution, pooling, linear, batch norm, add, concat, ReLU and "
            f"{len(known)} further PyTorch operators that TVM knows; rewrite the module with "
            "those, or leave it out of the compiled part."
        )
    # TVM 0.27 ignores this argument.
    if _name(node) == "avg_pool2d.default" and len(node.args) > 6 and node.args[6] is not None:
        raise UnsupportedOperator(
            f"Operator {node.target} in module {module_path(node)!r} cannot be lowered with "
            "divisor_override; multiply the result of sum pooling instead."
        )


def _name(node: fx.Node) -> str:
    target: Any = node.target
    return target.__name__ if hasattr(target, "__name__") else str(target)


def _convert_packed(importer: ExportedProgramImporter) -> Any:
    """Turns an operator of ours into one call that :class:`Converter` reads back."""

    def convert(node: fx.Node, _: Any = None) -> relax.Var:
        name = _name(node)
        tensors, _others = _PACKED[name]
        arguments = importer.retrieve_args(node)
        shapes = [
            relax.ShapeExpr(list(value) if isinstance(value, list | tuple) else [int(value)])
            for value in arguments[tensors:]
        ]
        result = relax.TensorType(tuple(node.meta["val"].shape), "float32")
        call = relax.op.call_pure_packed(
            "headgate." + name.removesuffix(".default"),
            *arguments[:tensors],
            *shapes,
            ty_args=result,
        )
        return importer.block_builder.emit(call)

    return convert
