"""What was compiled, run on the bundle's own vectors before anybody gets it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from headgate.compile.front.graph import Graph, Value
from headgate.compile.verify.layerwise import (
    EXACT,
    HALF,
    Difference,
    Layers,
    Trace,
    layer_differences,
)
from headgate.device import Bundle, Program
from headgate.device.machines.host import Host
from headgate.device.machines.qemu_system import QemuSystem
from headgate.device.machines.qemu_user import Qemu
from headgate.device.machines.runner import RunnerProgram
from headgate.device.targets import Target
from headgate.device.tensor_type import FLOAT16
from headgate.device.validation import sample_errors
from headgate.errors import BundleError, DeviceError, ToolMissing, WrongResult

EMULATED_MACS = 250_000_000
"""An emulator runs so many vectors that they have this many multiply-accumulates, at least one."""
FEWEST = 4
"""Vectors at least, where only those that were run are known to be right: see ``Checked``."""
_MANY_TIMES = 10
"""What is within so many of PyTorch's own rounding errors is right."""
Layered = Mapping[Value, np.ndarray]
REPORT = "This is a fault of headgate: please report it; check=False or --no-check compiles anyway"


@dataclass(frozen=True)
class Checked:
    """Where a bundle was held against PyTorch, and with what result.

    ``excused`` are the vectors on which it differs because a gate's decision falls otherwise by
    rounding; ``reason`` says why it was not checked where ``machine`` is None. In float16 that is
    common. There ``answers`` are PyTorch's by vector for the decisions that were made, within
    tolerance, and ``unknown`` are the vectors of a gated network that were not run.
    """

    machine: str | None
    reason: str = ""
    vectors: int = 0
    max_error: float = 0.0
    excused: tuple[int, ...] = ()
    unknown: tuple[int, ...] = ()
    answers: Mapping[int, list[np.ndarray]] = field(default_factory=dict)
    scales: tuple[float, ...] = ()
    """What the outputs' scales are to be taken for, where rounding is as large as they are."""

    def manifest(self) -> dict[str, Any]:
        """The manifest's ``checked``."""
        if self.machine is None:
            return {"machine": None, "reason": self.reason}
        return {
            "machine": self.machine,
            "vectors": self.vectors,
            # One digit: the others depend on PyTorch's threads.
            "max_error": float(f"{self.max_error:.0e}"),
            "excused": len(self.excused),
        }


def check(bundle: Bundle, graph: Graph, target: Target) -> Checked:
    """Runs ``bundle``, which was made of the fused ``graph``, on its vectors, and compares.

    Where the results are no larger than PyTorch's own rounding, that is what they are held
    against. Else a vector on which it differs is excused only if every layer by itself computes
    what PyTorch computes from the same inputs, and only if at least half of the vectors agree.

    Raises:
        WrongResult: it computes something else than PyTorch; names the first layer that does.
        StorageError: there is no room for the program in the temporary folder.
    """
    try:
        program = on_machine(bundle)
    except (BundleError, ToolMissing) as error:
        return Checked(None, str(error))
    inputs, expected = bundle.vectors()
    search = _Search(bundle, graph, target)
    first = how_many(bundle, program.machine, len(inputs[0]))
    if search.decides:
        first = max(first, min(FEWEST, len(inputs[0])))
    with program:
        try:
            errors, outputs = _run(program, inputs, expected, first)
            some = len(errors) < len(inputs[0]) and not search.decides
            if some and not (errors <= search.tolerance).all():
                errors, outputs = _run(program, inputs, expected, len(inputs[0]))
        except DeviceError as error:
            if isinstance(error.__cause__, OSError):  # it did not even start
                return Checked(None, str(error))
            raise search.crash(error) from error
    answers: dict[int, list[np.ndarray]] = {}
    for index in map(int, np.flatnonzero(~(errors <= search.tolerance))):  # NaN is not
        own = [output[index : index + 1] for output in outputs]
        layers = search.look_for_fault(index, own, errors[index])
        if search.decides:
            decided = search.decided(index, layers)
            if (apart := sample_errors(own, decided)[0]) <= search.tolerance:
                errors[index], answers[index] = apart, decided
    right = errors <= search.tolerance
    wrong = [int(index) for index in np.flatnonzero(~right)]
    unknown = range(len(errors), len(inputs[0])) if search.decides else range(0)
    if 2 * len(wrong) > len(errors):
        scales = search.rounding()
        apart = sample_errors(outputs, expected, scales)
        if not (apart <= search.tolerance).all():
            raise search.amplified(len(wrong), errors)
        return Checked(program.machine, "", len(apart), float(apart.max()), scales=scales)
    most, count = float(errors[right].max()), int(right.sum())
    return Checked(program.machine, "", count, most, tuple(wrong), tuple(unknown), answers)


def on_machine(bundle: Bundle) -> Program:
    """The bundle's runner in a process of its own, which may crash.

    Raises:
        BundleError: neither this machine nor an emulator runs its code.
        ToolMissing: the emulator is not installed.
    """
    try:
        Host().check(bundle)
    except BundleError:
        name = f"qemu:{bundle.target['name']}"
        emulator = Qemu.named(name) or QemuSystem.named(name)
        if emulator is None:
            raise
        emulator.check(bundle)
        return emulator.load(bundle, 1)
    return RunnerProgram(bundle, Host.name, [], None)


def how_many(bundle: Bundle, machine: str, vectors: int) -> int:
    """How many vectors are run if all goes well."""
    macs = sum(layer["dense_macs"] for layer in bundle.manifest["layers"])
    return vectors if machine == Host.name else min(vectors, max(1, EMULATED_MACS // max(1, macs)))


def _run(
    program: Program, inputs: list[np.ndarray], expected: list[np.ndarray], count: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The errors (count,) and the outputs of the first vectors."""
    outputs = program.outputs([array[:count] for array in inputs])
    return sample_errors(outputs, expected), outputs


class _Search:
    """Looks for the layer that is to blame, in a second program that shows all of them."""

    def __init__(self, bundle: Bundle, graph: Graph, target: Target) -> None:
        self.tolerance = float(bundle.manifest["tolerance"])
        self._bundle, self._graph, self._target = bundle, graph, target
        self._inputs, self._expected = bundle.vectors()
        half = any(node.output.dtype == FLOAT16 for node in graph.nodes)
        gated = any(node.kind == "gated_conv2d" for node in graph.nodes)
        self._exact, self.decides = HALF if half else EXACT, half and gated

    @cached_property
    def _trace(self) -> Trace:
        return Trace(self._graph, self._target, self._bundle)

    def look_for_fault(self, index: int, outputs: list[np.ndarray], error: float) -> Layered:
        """Every layer's result, if all are right and ``outputs`` of vector ``index`` follow.

        Raises:
            WrongResult: names the first layer that is not right, or says that the fault is in
                what layers share.
        """
        try:
            differences, layers, results = self._compare(index)
        except DeviceError as crash:
            raise self._error(f"crashes where every layer's result is kept: {crash}") from crash
        for limit in (self.tolerance, self._exact):
            for layer in differences:
                if self._exact == HALF and not np.isfinite(layer.error):
                    raise WrongResult(
                        f"The sums of layer {layer.path!r} of {self._bundle.name!r} leave the "
                        f"range of float16 on test vector {index}; compile with float32."
                    )
                if not layer.error <= limit:
                    raise self._error(
                        f"is off by {error:.1g} of the output's scale on test vector {index}; the "
                        f"first layer that differs is {layer.path!r} ({layer.operator}), by "
                        f"{layer.error:.1g} of its own"
                    )
        apart = sample_errors(outputs, results)
        # A network that amplifies rounding does so in PyTorch, too.
        _, exact = self._in_double([index])
        own = sample_errors(exact, [array[index : index + 1] for array in self._expected])
        if not apart[0] <= max(self.tolerance, _MANY_TIMES * float(own[0])):
            raise self._error(
                f"is off by {error:.1g} of the output's scale on test vector {index}, though each "
                "layer is right one by one; the fault lies in how they share memory or are fused"
            )
        return layers

    def decided(self, index: int, layers: Layered) -> list[np.ndarray]:
        """PyTorch's answers to a vector if its gates decide what ``layers`` say they decided."""
        graph, known = self._graph, {}
        for value, array in zip(graph.inputs, self._inputs, strict=True):
            known[graph.origins[value]] = torch.from_numpy(array[index : index + 1])
        for node in graph.nodes:
            if node.kind == "gated_conv2d" and node.inputs[1] in graph.origins:
                gate = node.inputs[1]
                known[graph.origins[gate]] = torch.from_numpy(layers[gate].copy())
        last = next(node for node in graph.module.graph.nodes if node.op == "output")
        return [tensor.numpy() for tensor in Layers(graph.module).compute(last, known)]

    def crash(self, error: DeviceError) -> WrongResult:
        """The error for a program that does not end well, with the layer if one is wrong."""
        try:
            differences, *_ = self._compare(0)
        except DeviceError:
            return self._error(f"crashes: {error}")
        layer = next((one for one in differences if not one.error <= self.tolerance), None)
        where = f", the first that differs is {layer.path!r} ({layer.operator})" if layer else ""
        return self._error(f"crashes: {error}; layers one by one do not{where}")

    def rounding(self) -> tuple[float, ...]:
        """Scales for results that are nothing but rounding, as a difference of equal numbers is.

        Where PyTorch's float32 differs from its float64 by about as much as the result is large,
        and by little against the numbers on the way, a result within ten such errors is right.
        """
        largest, exact = self._in_double(range(len(self._expected[0])))
        scales = []
        for wanted, array in zip(self._expected, exact, strict=True):
            own = float(np.abs(wanted - array).max())
            rounded = _MANY_TIMES * own <= EXACT * largest
            scale = _MANY_TIMES * own / self.tolerance if rounded else 0.0
            scales.append(max(scale, float(np.abs(wanted).max())) or 1.0)
        return tuple(scales)

    def _in_double(self, indices: Iterable[int]) -> tuple[float, list[np.ndarray]]:
        """PyTorch's float64 of some vectors: the largest number on the way, and the results."""
        network = _InDouble(self._graph.module)
        rows = [
            network.run(*(torch.from_numpy(a[i : i + 1]).double() for a in self._inputs))
            for i in indices
        ]
        return network.largest, [torch.cat(column).numpy() for column in zip(*rows, strict=True)]

    def amplified(self, count: int, errors: np.ndarray) -> WrongResult:
        """The error for a network whose layers are right, but too few of whose answers."""
        return WrongResult(
            f"{self._bundle.name!r} is off by {np.max(errors):.1g} of the output's scale on "
            f"{count} of {len(errors)} test vectors, though each layer is right: the network "
            "amplifies rounding. Give vectors like its real inputs, or check=False (--no-check)."
        )

    def _compare(self, index: int) -> tuple[list[Difference], Layered, list[np.ndarray]]:
        inputs = [array[index : index + 1] for array in self._inputs]
        with on_machine(self._trace.bundle) as program:
            layers, results = self._trace.split(program.outputs(inputs)[0])
        return layer_differences(self._graph, inputs, layers, self._exact), layers, results

    def _error(self, what: str) -> WrongResult:
        return WrongResult(f"What was compiled of {self._bundle.name!r} {what}. {REPORT}.")


class _InDouble(fx.Interpreter):
    """A network in float64, and the largest number that it met."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(copy.deepcopy(module).double())
        self.largest = 0.0

    @torch.no_grad()
    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor) and value.is_floating_point() and value.numel():
            self.largest = max(self.largest, float(value.abs().max()))
        return value
