"""A network of codes held against its reference: to the bit, layer by layer where it must be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from headgate.compile.front.graph import Graph, Node, Value
from headgate.compile.front.quantize.reference import Known, evaluate, is_defined, result_of
from headgate.compile.verify.check import REPORT, Checked, how_many, on_machine
from headgate.compile.verify.layerwise import Layers, Trace
from headgate.device import Bundle
from headgate.device.targets import Target
from headgate.device.tensor_type import TensorType
from headgate.device.validation import sample_errors
from headgate.errors import BundleError, DeviceError, ToolMissing, WrongResult

EXACT = 1e-6
"""The tolerance of a network that is codes throughout: its results are the same bits."""
LOOSE = 0.05
"""That of one with float32 layers, where a rounding that falls otherwise moves codes by one."""


class Reference:
    """The answers of a graph of codes."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._layers = Layers(graph.module)

    @property
    def exact(self) -> bool:
        """Whether every operator is defined to the bit."""
        return all(is_defined(node) for node in self._graph.nodes)

    @property
    def tolerance(self) -> float:
        """Of the bundle's results."""
        return EXACT if self.exact else LOOSE

    def answers(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The results (N, ...) for samples (N, ...) of each input."""
        rows = []
        for index in range(len(inputs[0])):
            values = self.values([array[index : index + 1] for array in inputs])
            rows.append([values[value] for value in self._graph.outputs])
        return [np.concatenate(column) for column in zip(*rows, strict=True)]

    def values(self, inputs: list[np.ndarray]) -> Known:
        """Every value for one sample."""
        return evaluate(self._graph, inputs, self._float)

    def result(self, node: Node, values: Known) -> np.ndarray:
        """What ``node`` makes of values."""
        return result_of(node, values, self._float)

    def _float(self, node: Node, values: Known) -> np.ndarray:
        """By PyTorch, from the numbers that codes stand for."""
        origins = self._graph.origins
        known = {
            origins[value]: torch.from_numpy(_numbers(value, array))
            for value, array in values.items()
            if value in origins and value is not node.output
        }
        return self._layers.compute(origins[node.output], known).numpy()


def _numbers(value: Value, array: np.ndarray) -> np.ndarray:
    kept = value.type.quantization
    return array.copy() if kept is None else array.astype(np.float32) * np.float32(kept.scale[0])


def check(bundle: Bundle, graph: Graph, target: Target) -> Checked:
    """Runs ``bundle`` on its vectors, here or in the target's emulator, and compares.

    Where the results are not the reference's, every layer has to be, by itself: to the bit one of
    codes, within rounding one of float32.

    Raises:
        WrongResult: it computes something else; names the first layer that does.
    """
    try:
        program = on_machine(bundle)
    except (BundleError, ToolMissing) as error:
        return Checked(None, str(error))
    inputs, expected = bundle.vectors()
    with program:
        try:
            count = how_many(bundle, program.machine, len(inputs[0]))
            outputs = program.outputs([array[:count] for array in inputs])
        except DeviceError as error:
            if isinstance(error.__cause__, OSError):
                return Checked(None, str(error))
            raise WrongResult(
                f"What was compiled of {bundle.name!r} crashes: {error}. {REPORT}."
            ) from error
    errors = sample_errors(outputs, expected)
    reference = Reference(graph)
    for index in np.flatnonzero(~(errors <= (0 if reference.exact else EXACT))):
        _look_for_fault(bundle, graph, target, reference, int(index), float(errors[index]))
    return Checked(program.machine, "", len(errors), float(errors.max()))


def _look_for_fault(
    bundle: Bundle, graph: Graph, target: Target, reference: Reference, index: int, error: float
) -> None:
    inputs, _ = bundle.vectors()
    sample = [array[index : index + 1] for array in inputs]
    values = _traced(bundle, graph, target, sample)
    for node in graph.nodes:
        got, wanted = values[node.output], reference.result(node, values)
        if is_defined(node):
            wrong = not np.array_equal(got, wanted)
        else:
            scale = float(np.abs(wanted).max()) or 1.0
            wrong = not float(np.abs(got - wanted).max()) <= 1e-4 * scale
        if wrong:
            raise WrongResult(
                f"What was compiled of {bundle.name!r} is off by {error:.1g} of the output's scale "
                f"on test vector {index}; the first layer that differs from its reference is "
                f"{node.name!r} ({node.kind}). {REPORT}."
            )
    if reference.exact:
        raise WrongResult(
            f"What was compiled of {bundle.name!r} is off by {error:.1g} of the output's scale on "
            f"test vector {index}, though each layer is right one by one; the fault lies in how "
            f"they share memory. {REPORT}."
        )


def _traced(bundle: Bundle, graph: Graph, target: Target, sample: list[np.ndarray]) -> Known:
    """What a second program, from which every layer's result comes back, makes of a sample."""
    numbers: dict[Value, Value] = {}
    nodes = list(graph.nodes)
    for node in graph.nodes:
        value = node.output
        if value.type.quantization is None:
            numbers[value] = value
            continue
        numbers[value] = Value(f"{value.name}.traced", TensorType(value.shape))
        attributes = {"factor": np.float32(1)}
        nodes.append(Node("dequantize", [value], numbers[value], "", attributes))
    traced = Graph(graph.inputs, nodes, list(graph.outputs))
    trace = Trace(traced, target, bundle)
    with on_machine(trace.bundle) as program:
        found, _ = trace.split(program.outputs(sample)[0])
    values = dict(zip(graph.inputs, sample, strict=True))
    for value, traced_value in numbers.items():
        values[value] = found[traced_value].astype(value.dtype)
    return values
