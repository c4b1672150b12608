"""From an ``nn.Module`` to core ATen operators on its inputs, by torch.export.

PyTorch decomposes compound operators and evaluates what depends on no input.
"""

from __future__ import annotations

import functools
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._decomp import decomposition_table
from torch.export.graph_signature import InputKind, OutputKind

import headgate.train.gates.operators
import headgate.train.gates.pixel_operator
import headgate.train.pruning.operators  # noqa: F401  they register headgate::* with torch
from headgate.compile.front.convert import convert
from headgate.compile.front.graph import Graph
from headgate.compile.front.operators import OPERATORS
from headgate.compile.front.reading import module_path
from headgate.errors import CompileError, UnsupportedOperator, first_line


def capture(module: nn.Module, example: tuple[Tensor, ...]) -> Graph:
    """The graph of ``module`` in evaluation mode.

    ``example`` holds one tensor for each input, batch one.

    Raises:
        CompileError: torch.export cannot trace the network, or it keeps a state.
        UnsupportedOperator: an operator that cannot be lowered; names its module.
    """
    program = _folded(_export(module, example))
    graph = convert(program)
    graph.remove_unused()
    return graph


def _folded(program: torch.export.ExportedProgram) -> fx.GraphModule:
    """What ``program`` computes from its inputs; attributes hold the rest, evaluated."""
    root, graph = nn.Module(), fx.Graph()
    constants: dict[fx.Node, Any] = {}
    placed: dict[fx.Node, fx.Node] = {}
    tensors = _tensors(program)

    def place(node: fx.Node) -> fx.Node:
        if node not in placed:
            name = f"constant_{node.name}"
            root.register_buffer(name, constants[node], persistent=False)
            placed[node] = graph.get_attr(name)
            placed[node].meta["val"] = constants[node]
        return placed[node]

    for node in program.graph.nodes:
        if node.op == "placeholder":
            if node.name in tensors:
                constants[node] = tensors[node.name]
            else:
                placed[node] = graph.node_copy(node)
        elif node.op == "call_function" and _has_result(node):
            _refuse_random(node)
            if all(argument in constants for argument in node.all_input_nodes):
                known = fx.node.map_arg((node.args, node.kwargs), constants.__getitem__)
                constants[node] = _evaluated(node.target, *known)
            else:
                placed[node] = graph.node_copy(node, place)
    graph.output(tuple(place(node) for node in _results(program)))
    graph.eliminate_dead_code()
    return fx.GraphModule(root, graph)


def _tensors(program: torch.export.ExportedProgram) -> dict[str, Tensor]:
    """Parameters, buffers and constant tensors by the placeholder that stands for them."""
    found: dict[str, Tensor] = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind == InputKind.USER_INPUT:
            continue
        assert spec.target is not None
        known = program.state_dict if spec.target in program.state_dict else program.constants
        found[spec.arg.name] = known[spec.target].detach()
    return found


def _results(program: torch.export.ExportedProgram) -> list[fx.Node]:
    """The nodes that the network returns; what it does to its inputs ends here."""
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    results = []
    for spec, node in zip(program.graph_signature.output_specs, output.args[0], strict=True):
        if spec.kind == OutputKind.BUFFER_MUTATION:
            raise CompileError(
                f"The network changes its buffer {spec.target!r} while it runs; a bundle keeps no "
                "state between images. Take that out of forward()."
            )
        if spec.kind == OutputKind.USER_OUTPUT:
            if not isinstance(node, fx.Node):
                raise CompileError(
                    f"The network returns {node!r}, which is no tensor; return tensors only."
                )
            results.append(node)
    return results


@torch.no_grad()
def _evaluated(target: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    return target(*arguments, **options)


def _has_result(node: fx.Node) -> bool:
    """Assertions have none: they held when the network was traced."""
    schema = getattr(node.target, "_schema", None)
    return schema is None or bool(schema.returns)


def _refuse_random(node: fx.Node) -> None:
    random = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
    if random and str(node.target) not in OPERATORS:
        raise UnsupportedOperator(
            f"Operator {node.target} in module {module_path(node)!r} draws random numbers, which "
            "a compiled network cannot; take it out of forward() in evaluation mode."
        )


def _export(module: nn.Module, example: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    try:
        with _quiet(), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, example)
            return program.run_decompositions(dict(_decompositions(_registered())))
    except Exception as error:  # torch.export raises its own and Python's exceptions alike
        reason = first_line(error)
        hint = " Choose with torch.where, not with Python's if." if "dependent" in reason else ""
        raise CompileError(
            f"torch.export cannot trace {type(module).__name__}: {reason}.{hint}"
        ) from error


def _registered() -> int:
    """How many operators PyTorch knows; a library that registers its own adds to them."""
    return len(torch._C._dispatch_get_all_op_names())


@functools.cache
def _decompositions(registered: int) -> dict[Any, Any]:
    """PyTorch's decomposition of every operator that has one, no handler, and a tensor to read.

    ``torch.export``'s own table keeps the core operators, many of which can be taken apart further.
    Making it takes a tenth of a second, so it is kept until PyTorch knows another number of
    operators.
    """
    table = dict(torch.export.default_decompositions().materialize())
    for operator, function in decomposition_table.items():
        if isinstance(operator, torch._ops.OpOverload) and operator not in table:
            table[operator] = function
    for operator in list(table):
        schema = operator._schema  # type: ignore[attr-defined]
        if str(operator) in OPERATORS or not any("Tensor" in str(a.type) for a in schema.arguments):
            table.pop(operator)
    return table


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences torch.export; our error carries its message."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)
